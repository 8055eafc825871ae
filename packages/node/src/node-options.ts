import type { Logger, NexletDefinition } from '@nex-nix/nexlet';
import { ProtocolError, type RegisterAgentRequest, subjectToken, type Tags } from '@nex-nix/protocol';
import type { LocalNexletSpec } from './agents/local-program.ts';
import type { Minter } from './credentials/minter.ts';
import type { GivenSeeds } from './identity.ts';
import { NodeError } from './node-error.ts';
import type { EventTarget } from './node-feed.ts';
import type { StateOption } from './state/open-state.ts';

export interface NodeOptions extends GivenSeeds {
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
  /** Nexlets that the node runs as processes. */
  localNexlets?: readonly LocalNexletSpec[];
  /** How often a local nexlet that ends is started again, within a minute in which it is not stable. Default 3; 0: never. */
  agentRestartLimit?: number;
  /** Whether nexlets that nobody started here may ask for a node, this one. Default false. */
  allowRemoteNexlets?: boolean;
  /** Which nexlets may register; one that may not is told so (403). Default: all that reach the node. */
  admit?: (request: RegisterAgentRequest, agentId: string) => boolean | Promise<boolean>;
  /** How many workloads all nexlets together may have. Default 0: as many as come. */
  maxWorkloads?: number;
  /** Where events of the node go. Default `nats`: its feed. */
  events?: EventTarget;
  /** Whether to make the stream that keeps logs and events, where there is none. Default false. */
  retain?: boolean;
  /** Copies, in a cluster, of what the node keeps in JetStream, where it makes the streams. Default 1. */
  jetstreamReplicas?: number;
  /** Semantic version. */
  version: string;
  logger?: Logger;
  /** Where the node keeps what it is to run. Default: in JetStream where there is one. */
  state?: StateOption;
  /** Time between two comparisons of what runs with what should, in milliseconds. Default 10 s. */
  reconcileMs?: number;
  /** How long a bid holds, in milliseconds. Default 10 s. */
  auctionTtlMs?: number;
  /** Time between the heartbeats of the node, in milliseconds. Default 10 s. */
  heartbeatMs?: number;
  /** Ends the start; a running node ends by being disposed. */
  signal?: AbortSignal;
}

/** @throws {NodeError} NODE_OPTION_INVALID */
export function checkOptions({ name, nexus = 'nexus', version, maxWorkloads = 0 }: NodeOptions): void {
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
  if (Number.isSafeInteger(maxWorkloads) && maxWorkloads >= 0) return;
  const message = `Cannot start node "${name}": ${maxWorkloads} is no number of workloads`;
  throw new NodeError('NODE_OPTION_INVALID', message, { hint: '0 means as many as come' });
}
