import type { EndpointHandler, MicroService } from '@nex-nix/nexlet';
import {
  agentSubjects,
  ANY,
  lastToken,
  newId,
  type NatsConnectionData,
  parseRunRequestSchema,
  ProtocolError,
  RegisterAgentRequest,
  RegisterAgentResponse,
  RegisterRemoteAgentRequest,
  RegisterRemoteAgentResponse,
  type RunRequestSchema,
} from '@nex-nix/protocol';
import { type NodeContext, readRequest, Refusal } from './node-context.ts';
import type { Existing } from './state/desired-workloads.ts';

/** Where nexlets register. */
export function addRegistrationEndpoint(service: MicroService, node: NodeContext): void {
  service.endpoint('RegisterAgent', agentSubjects.register(node.id, ANY), registerAgent(node));
}

/** Where nexlets that nobody has started ask for a node. One node of the nexus answers. */
export function addRemoteRegistrationEndpoint(service: MicroService, node: NodeContext): void {
  const subject = { subject: agentSubjects.registerRemote(node.nexus), queue: node.nexus };
  service.endpoint('RegisterRemoteAgent', subject, registerRemoteAgent(node));
}

function registerRemoteAgent(node: NodeContext): EndpointHandler {
  return async (msg) => {
    readRequest(RegisterRemoteAgentRequest, msg, 'failed to unmarshal register remote agent request');
    const agentId = newId();
    const credentials = await mintRegistration(node, agentId);
    node.logger.info({ agentId }, 'a remote nexlet may register here');
    return {
      data: RegisterRemoteAgentResponse.encode({
        assigned_agent_id: agentId,
        respond_to: node.id,
        registration_creds: credentials,
      }),
    };
  };
}

async function mintRegistration({ minter, id, nexus }: NodeContext, agentId: string): Promise<NatsConnectionData> {
  try {
    return await minter.registration({ nodeId: id, nexus, agentId });
  } catch (cause) {
    throw new Refusal(500, 'failed to mint register', { cause });
  }
}

function registerAgent(node: NodeContext): EndpointHandler {
  return async (msg) => {
    const agentId = lastToken(msg.subject);
    const request = readRequest(RegisterAgentRequest, msg, 'failed to unmarshal register local agent request');
    if (request.register_type === '') throw new Refusal(400, 'register_type is required');
    if (!(await node.admit(request, agentId))) {
      const detail = `a nexlet of type "${request.register_type}" may not register here`;
      throw new Refusal(403, 'failed agent registrar check', { detail });
    }
    const schema = readSchema(request.start_request_schema);
    const connection = await mintAgent(node, agentId);
    // Registering subscribes to the heartbeats: the first one may come right after the reply.
    const outcome = node.registry.register(agentId, request, schema);
    if (outcome === 'refused') {
      const detail = `another nexlet is registered as ${agentId}`;
      throw new Refusal(500, 'failed to update registration', { detail });
    }
    await node.nc.flush();
    const { existing, renewals } = await existingFor(node, agentId, request);
    // Nexlets register again to renew their credentials.
    if (outcome === 'new') {
      const { name, register_type: type } = request;
      node.logger.info({ agentId, nexlet: name, type }, 'nexlet registered');
      node.feed.agentStarted({ id: agentId, name, type });
    }
    return {
      data: RegisterAgentResponse.encode({
        connection_data: connection,
        existing_state: existing,
        message: '',
        node_id: node.id,
        success: true,
        asks_for_bids: true,
        ...(Object.keys(renewals).length === 0 ? {} : { renewals }),
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

async function existingFor(
  { desired }: NodeContext,
  agentId: string,
  request: RegisterAgentRequest,
): Promise<Existing> {
  try {
    return await desired.existingFor(agentId, request);
  } catch (cause) {
    throw new Refusal(500, 'failed to mint workload nats connection', { cause });
  }
}

async function mintAgent({ minter, id, nexus }: NodeContext, agentId: string): Promise<NatsConnectionData> {
  try {
    return await minter.agent({ nodeId: id, nexus, agentId });
  } catch (cause) {
    throw new Refusal(500, 'failed to mint nats connection', { cause });
  }
}
