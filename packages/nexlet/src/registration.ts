import type { Msg, NatsConnection } from '@nats-io/nats-core';
import {
  agentSubjects,
  AgentStartWorkloadRequest,
  natsConnectionData,
  ProtocolError,
  readErrorReply,
  RegisterAgentRequest,
  RegisterAgentResponse,
  requestOne,
} from '@nex-nix/protocol';
import type { Logger } from './logger.ts';
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
  readonly logger: Logger;
}

/**
 * Registers a nexlet with its node.
 *
 * @throws {NexletError} NEXLET_NODE_UNREACHABLE, NEXLET_REGISTRATION_REFUSED
 * @throws {ProtocolError} NEX_PERMISSION when the connection may not register, NEX_CONNECTION_CLOSED
 */
export async function register(
  nc: NatsConnection,
  registrant: Registrant,
  signal?: AbortSignal,
): Promise<RegisterAgentResponse> {
  const { definition, nodeId, agentId, xkey } = registrant;
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
    response = readResponse(reply, registrant);
  } catch (cause) {
    throw cause instanceof ProtocolError ? refused(definition.name, cause.message, cause) : cause;
  }
  if (!response.success) throw refused(definition.name, response.message || 'the node refuses it');
  return response;
}

function refused(name: string, why: string, cause?: unknown): NexletError {
  return new NexletError('NEXLET_REGISTRATION_REFUSED', `Cannot register nexlet "${name}": ${why}`, { cause });
}

/** Reads a reply key by key: what is missing and can be done without is, and so is each entry of the state. */
function readResponse(reply: Msg, { nodeId, logger }: Registrant): RegisterAgentResponse {
  const error = readErrorReply(reply);
  if (error !== undefined) throw error;
  const { existing_state: state, ...rest } = asObject(reply.data);
  const { connection_data: connection } = rest;
  const given = {
    message: '',
    node_id: nodeId,
    ...rest,
    ...(isObject(connection) ? { connection_data: { ...natsConnectionData({}), ...connection } } : {}),
    ...(rest['success'] === false && connection === undefined ? { connection_data: natsConnectionData({}) } : {}),
    existing_state: {},
  };
  const response = RegisterAgentResponse.decode(JSON.stringify(given), reply.subject);
  return { ...response, existing_state: readEntries(state, logger) };
}

function readEntries(state: unknown, logger: Logger): Record<string, AgentStartWorkloadRequest> {
  if (!isObject(state)) return {};
  const result: [string, AgentStartWorkloadRequest][] = [];
  for (const [id, entry] of Object.entries(state)) {
    try {
      result.push([id, AgentStartWorkloadRequest.decode(JSON.stringify(entry), `existing_state.${id}`)]);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      logger.error({ err: error, workloadId: id }, 'existing workload could not be restored');
    }
  }
  return Object.fromEntries(result);
}

function asObject(data: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(data));
  } catch (cause) {
    throw new ProtocolError('NEX_MESSAGE_INVALID', 'the reply of the node is not JSON', { cause });
  }
  if (isObject(value)) return value;
  throw new ProtocolError('NEX_MESSAGE_INVALID', 'the reply of the node is no object');
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
