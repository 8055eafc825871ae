import type { NatsConnection } from '@nats-io/nats-core';
import {
  agentSubjects,
  type NatsConnectionData,
  ProtocolError,
  readReply,
  RegisterRemoteAgentRequest,
  RegisterRemoteAgentResponse,
  requestOne,
} from '@nex-nix/protocol';
import { NexletError } from './nexlet-error.ts';

/** How long the nodes of a nexus may take to answer, in milliseconds. */
const TIMEOUT = 3_000;

/** Where a nexlet that no node has started may register. */
export interface RemoteAssignment {
  readonly nodeId: string;
  readonly agentId: string;
  /** What to register with; undefined: over the connection that asked. */
  readonly registration: NatsConnectionData | undefined;
}

/**
 * Asks the nodes of a nexus for a place; one of them answers.
 *
 * @throws {NexletError} NEXLET_NODE_UNREACHABLE, NEXLET_REGISTRATION_REFUSED
 */
export async function askForPlace(nc: NatsConnection, nexus: string, signal: AbortSignal): Promise<RemoteAssignment> {
  const subject = agentSubjects.registerRemote(nexus);
  const { reply, noResponders } = await requestOne(nc, subject, RegisterRemoteAgentRequest.encode({}), {
    timeout: TIMEOUT,
    signal,
  });
  if (reply === undefined) {
    const why = noResponders ? 'takes nexlets' : 'answers';
    throw new NexletError('NEXLET_NODE_UNREACHABLE', `Cannot find a node of nexus "${nexus}": none ${why}`, {
      hint: 'Start a node that takes them: nex node up --allow-remote-agent-registration',
    });
  }
  try {
    const response = readReply(RegisterRemoteAgentResponse, reply, subject);
    const { assigned_agent_id: agentId, respond_to: nodeId, registration_creds: registration } = response;
    return { nodeId, agentId, registration };
  } catch (cause) {
    if (!(cause instanceof ProtocolError)) throw cause;
    const message = `Cannot register a nexlet in nexus "${nexus}": ${cause.message}`;
    throw new NexletError('NEXLET_REGISTRATION_REFUSED', message, { cause });
  }
}
