import { toPublicError } from '@nex-nix/errors';
import { NexletError, type NexletDefinition, type RunningNexlet, runNexlet } from '@nex-nix/nexlet';
import { newId } from '@nex-nix/protocol';
import type { NodeContext } from '../node-context.ts';
import { NodeError } from '../node-error.ts';

/** How long a registered nexlet may take to show itself healthy, in milliseconds. */
const HEALTHY_TIMEOUT = 10_000;

/**
 * Starts a nexlet inside the node's process; resolves when the node hears that it is healthy.
 *
 * @throws {NodeError} NODE_CREDENTIALS_REFUSED, NODE_NEXLET_FAILED
 */
export async function startEmbedded(
  node: NodeContext,
  definition: NexletDefinition,
  signal: AbortSignal,
): Promise<RunningNexlet> {
  const { id: nodeId, nexus, minter, logger } = node;
  const agentId = newId();
  const registration = await minter.registration({ nodeId, nexus, agentId });
  let nexlet: RunningNexlet;
  try {
    nexlet = await runNexlet(definition, { registration, nodeId, nexus, agentId, logger, signal });
  } catch (error) {
    throw nodeErrorOf(error, definition.name);
  }
  try {
    await node.registry.untilHealthy(agentId, AbortSignal.any([signal, AbortSignal.timeout(HEALTHY_TIMEOUT)]));
  } catch (cause) {
    await nexlet[Symbol.asyncDispose]();
    signal.throwIfAborted();
    const message = `Cannot start nexlet "${definition.name}": no heartbeat of it arrives`;
    throw new NodeError('NODE_NEXLET_FAILED', message, {
      cause,
      hint: 'Nexlets publish on "$NEX.SVC.<node>.agent.HEARTBEAT.<nexlet>": check that credentials and accounts let that through',
    });
  }
  node.agents.embed(agentId, definition);
  return nexlet;
}

function nodeErrorOf(error: unknown, name: string): unknown {
  if (!(error instanceof NexletError)) return error;
  if (error.code === 'NEXLET_NATS_REFUSED') {
    const message = `Cannot start nexlet "${name}": the NATS server refuses the credentials that this node makes for it`;
    return new NodeError('NODE_CREDENTIALS_REFUSED', message, {
      cause: error,
      hint: 'Give the node a signing key of its account: --issuer-signing-key SA… --issuer-signing-key-root-account A…',
    });
  }
  const message = `Cannot start nexlet "${name}": ${toPublicError(error).message}`;
  return new NodeError('NODE_NEXLET_FAILED', message, { cause: error });
}
