import type { NatsConnection } from '@nats-io/nats-core';
import {
  agentSubjects,
  type NatsConnectionData,
  ProtocolError,
  readReply,
  RegisterAgentRequest,
  RegisterAgentResponse,
  requestOne,
} from '@nex-nix/protocol';
import type { NexletDefinition } from './nexlet-definition.ts';
import { NexletError } from './nexlet-error.ts';

/** How long a node may take to answer a registration, in milliseconds. */
const REGISTER_TIMEOUT = 10_000;

/** Who registers where. */
export interface Registrant {
  readonly definition: NexletDefinition;
  readonly nodeId: string;
  readonly agentId: string;
  /** Public curve key of the nexlet. */
  readonly xkey: string;
}

/**
 * Registers a nexlet with its node.
 *
 * @throws {NexletError} NEXLET_NODE_UNREACHABLE, NEXLET_REGISTRATION_REFUSED
 */
export async function register(
  nc: NatsConnection,
  { definition, nodeId, agentId, xkey }: Registrant,
  signal?: AbortSignal,
): Promise<RegisterAgentResponse> {
  const subject = agentSubjects.register(nodeId, agentId);
  const payload = RegisterAgentRequest.encode({
    description: definition.description ?? '',
    max_workloads: definition.maxWorkloads ?? 0,
    name: definition.name,
    public_xkey: xkey,
    register_type: definition.type,
    start_request_schema: JSON.stringify(definition.startRequestSchema),
    version: definition.version,
    supported_lifecycles: [...definition.lifecycles],
  });
  const { reply } = await requestOne(nc, subject, payload, { timeout: REGISTER_TIMEOUT, signal });
  if (reply === undefined) {
    const message = `Cannot register nexlet "${definition.name}": node "${nodeId}" does not answer`;
    throw new NexletError('NEXLET_NODE_UNREACHABLE', message);
  }
  let response: RegisterAgentResponse;
  try {
    response = readReply(RegisterAgentResponse, reply, subject);
  } catch (cause) {
    throw cause instanceof ProtocolError ? refused(definition.name, cause.message, cause) : cause;
  }
  if (!response.success) throw refused(definition.name, response.message || 'the node refuses it');
  return response;
}

function refused(name: string, why: string, cause?: unknown): NexletError {
  return new NexletError('NEXLET_REGISTRATION_REFUSED', `Cannot register nexlet "${name}": ${why}`, { cause });
}

/** When the credentials in connection data end, in milliseconds of the Unix epoch; undefined when they do not. */
export function expiryOf({ nats_user_jwt: jwt }: NatsConnectionData): number | undefined {
  const claims = jwt.split('.')[1];
  if (claims === undefined) return undefined;
  const parsed: unknown = JSON.parse(Buffer.from(claims, 'base64url').toString());
  const expiry = typeof parsed === 'object' && parsed !== null && 'exp' in parsed ? parsed.exp : undefined;
  return typeof expiry === 'number' && expiry > 0 ? expiry * 1_000 : undefined;
}
