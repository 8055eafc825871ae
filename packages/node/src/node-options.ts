import type { Logger, NexletDefinition } from '@nex-nix/nexlet';
import { ProtocolError, subjectToken, type Tags } from '@nex-nix/protocol';
import type { Minter } from './minter.ts';
import { NodeError } from './node-error.ts';

export interface NodeOptions {
  /** Shown to people; tag `nex.node`. */
  name: string;
  /** Group of nodes that belong together. Default `nexus`. */
  nexus?: string;
  /** Placement tags; those with the prefix `nex.` are the node's own. */
  tags?: Tags;
  /** Folder that keeps who the node is. */
  stateDir: string;
  /** Makes the credentials of nexlets and workloads. Default: {@link fullAccessMinter} with `servers`. */
  minter?: Minter;
  /** What the default minter names. Default: the server of the connection. */
  servers?: readonly string[];
  /** Nexlets that run inside the node, each over a connection of its own. */
  nexlets?: readonly NexletDefinition[];
  /** Semantic version. */
  version: string;
  logger?: Logger;
  /** How long a bid holds, in milliseconds. Default 10 s. */
  auctionTtlMs?: number;
  /** Time between the heartbeats of the node, in milliseconds. Default 10 s. */
  heartbeatMs?: number;
  /** Ends the start; a running node ends by being disposed. */
  signal?: AbortSignal;
}

/** @throws {NodeError} NODE_OPTION_INVALID */
export function checkOptions({ name, nexus = 'nexus', version }: NodeOptions): void {
  try {
    subjectToken(nexus, 'nexus');
  } catch (cause) {
    if (!(cause instanceof ProtocolError)) throw cause;
    throw new NodeError('NODE_OPTION_INVALID', `Cannot start node "${name}": ${cause.message}`, {
      cause,
      hint: cause.hint,
    });
  }
  if (!/^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$/.test(version)) {
    throw new NodeError('NODE_OPTION_INVALID', `Cannot start node "${name}": "${version}" is not a semantic version`);
  }
}
