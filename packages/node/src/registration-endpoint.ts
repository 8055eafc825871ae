import type { EndpointHandler, MicroService } from '@nex-nix/nexlet';
import {
  agentSubjects,
  ANY,
  lastToken,
  type NatsConnectionData,
  parseRunRequestSchema,
  ProtocolError,
  RegisterAgentRequest,
  RegisterAgentResponse,
  type RunRequestSchema,
} from '@nex-nix/protocol';
import { type NodeContext, readRequest, Refusal } from './node-context.ts';

/** Where nexlets register. */
export function addRegistrationEndpoint(service: MicroService, node: NodeContext): void {
  service.endpoint('RegisterAgent', agentSubjects.register(node.id, ANY), registerAgent(node));
}

function registerAgent(node: NodeContext): EndpointHandler {
  return async (msg) => {
    const agentId = lastToken(msg.subject);
    const request = readRequest(RegisterAgentRequest, msg, 'failed to unmarshal register local agent request');
    if (request.register_type === '') throw new Refusal(400, 'register_type is required');
    const schema = readSchema(request.start_request_schema);
    const connection = await mintAgent(node, agentId);
    // Registering subscribes to the heartbeats: the first one may come right after the reply.
    if (!node.registry.register(agentId, request, schema)) {
      const detail = `another nexlet is registered as ${agentId}`;
      throw new Refusal(500, 'failed to update registration', { detail });
    }
    await node.nc.flush();
    node.logger.info({ agentId, nexlet: request.name, type: request.register_type }, 'nexlet registered');
    return {
      data: RegisterAgentResponse.encode({
        connection_data: connection,
        existing_state: {},
        message: '',
        node_id: node.id,
        success: true,
        asks_for_bids: true,
      }),
    };
  };
}

function readSchema(text: string): RunRequestSchema {
  try {
    JSON.parse(text);
  } catch (cause) {
    throw new Refusal(400, 'failed to unmarshal start request schema', { cause });
  }
  try {
    const schema = parseRunRequestSchema(text);
    schema.check({});
    return schema;
  } catch (cause) {
    if (cause instanceof ProtocolError) throw new Refusal(500, 'failed to compile schema', { cause });
    throw cause;
  }
}

async function mintAgent({ minter, id, nexus }: NodeContext, agentId: string): Promise<NatsConnectionData> {
  try {
    return await minter.agent({ nodeId: id, nexus, agentId });
  } catch (cause) {
    throw new Refusal(500, 'failed to mint nats connection', { cause });
  }
}
