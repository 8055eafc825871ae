import type { NatsConnection } from '@nats-io/nats-core';
import { type NatsConnectionData, ProtocolError, type RegisterAgentResponse } from '@nex-nix/protocol';
import { connectWith } from './connect-with.ts';
import type { Nexlet } from './nexlet.ts';
import { register, type Registrant } from './registration.ts';

/** A connection to register over: connection data, or what makes one. */
export type RegistrationSource = NatsConnectionData | ((signal?: AbortSignal) => Promise<NatsConnection>);

export interface RegistrarOptions {
  nodeId: string;
  /** The id that the node assigned. */
  agentId: string;
  registration: RegistrationSource;
}

/** Registers a nexlet with a node, always with the same id and key; the connection data of its answers name servers. */
export class Registrar {
  readonly #registrant: Registrant;
  readonly #source: RegistrationSource;

  constructor({ definition, xkey, logger }: Nexlet, { nodeId, agentId, registration }: RegistrarOptions) {
    this.#registrant = { definition, nodeId, agentId, xkey: xkey.getPublicKey(), logger };
    this.#source = registration;
  }

  /** Over a connection of its own, as nexlets of Nex 0.4 do. */
  async first(signal: AbortSignal | undefined): Promise<RegisterAgentResponse> {
    const source = this.#source;
    const nc = typeof source === 'function' ? await source(signal) : await connectWith(source, { signal });
    try {
      const response = await register(nc, this.#registrant, signal);
      return withServers(response, typeof source === 'function' ? [nc.getServer()] : source.nats_servers);
    } finally {
      await nc.close();
    }
  }

  /** Over the nexlet's connection, or as at first where that is not allowed: at Go nodes. */
  async again(nc: NatsConnection, current: NatsConnectionData, signal: AbortSignal): Promise<RegisterAgentResponse> {
    try {
      return withServers(await register(nc, this.#registrant, signal), current.nats_servers);
    } catch (error) {
      if (!(error instanceof ProtocolError) || error.code !== 'NEX_PERMISSION') throw error;
      return this.first(signal);
    }
  }
}

/** Nodes that were not told their servers name none to nexlets: then it is those that the registration went over. */
function withServers(response: RegisterAgentResponse, known: string[]): RegisterAgentResponse {
  const { connection_data: data } = response;
  if (data.nats_servers.length > 0) return response;
  return { ...response, connection_data: { ...data, nats_servers: known } };
}
