import { jetstream } from '@nats-io/jetstream';
import { errors, type NatsConnection } from '@nats-io/nats-core';
import type { Logger } from '@nex-nix/nexlet';
import { NodeError } from '../node-error.ts';
import type { DesiredState } from './desired-state.ts';
import { KvState } from './kv-state.ts';

/**
 * Where a node keeps what it is to run. `kv`: in JetStream, without which it does not start. `none`: nowhere. Empty: in
 * JetStream where there is one, which is looked at once, at the start.
 */
export type StateOption = 'kv' | 'none' | '';

/** How long JetStream may take to answer, in milliseconds. Where a user may not ask, nobody answers. */
const TIMEOUT = 3_000;

export interface OpenStateOptions {
  readonly option: StateOption;
  readonly nodeId: string;
  readonly logger: Logger;
  /** Copies in a cluster, where the bucket is made. */
  readonly replicas?: number;
}

/** @throws {NodeError} NODE_STATE_UNAVAILABLE where state is wanted and cannot be kept */
export async function openState(nc: NatsConnection, options: OpenStateOptions): Promise<DesiredState | undefined> {
  const { option, nodeId, logger, replicas = 1 } = options;
  if (option === 'none') return undefined;
  const js = jetstream(nc, { timeout: TIMEOUT });
  try {
    const state = await KvState.open(js, { nodeId, logger, replicas });
    logger.info({ bucket: `nex-${nodeId}`, workloads: state.all().length }, 'desired state is kept in JetStream');
    return state;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    if (option === '' && saysNothingIsThere(cause)) {
      logger.info({ reason: why }, 'desired state is not kept: there is no JetStream for this node');
      return undefined;
    }
    throw new NodeError('NODE_STATE_UNAVAILABLE', `Cannot keep desired state in JetStream: ${why}`, {
      cause,
      hint: 'Turn JetStream on in the NATS server and for the account, or run without state: --state none',
    });
  }
}

/** There is no JetStream, or the node's user has no right to it. Anything else may be over in a moment. */
function saysNothingIsThere(error: unknown): boolean {
  const reasons = [error, error instanceof Error ? error.cause : undefined];
  return reasons.some(
    (reason) =>
      // The library does not export that class.
      (reason instanceof Error && reason.name === 'JetStreamNotEnabled') ||
      reason instanceof errors.PermissionViolationError ||
      reason instanceof errors.TimeoutError,
  );
}
