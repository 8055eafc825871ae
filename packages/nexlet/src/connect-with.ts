import { setTimeout as delay } from 'node:timers/promises';
import {
  type Authenticator,
  errors,
  jwtAuthenticator,
  type NatsConnection,
  nkeyAuthenticator,
  usernamePasswordAuthenticator,
} from '@nats-io/nats-core';
import { connect, type NodeConnectionOptions } from '@nats-io/transport-node';
import type { NatsConnectionData } from '@nex-nix/protocol';
import { NexletError } from './nexlet-error.ts';

const DEFAULT_SERVER = 'nats://127.0.0.1:4222';
const CONNECT_TIMEOUT = 10_000;
const RECONNECT_WAIT = 500;
/** A server that vanished without closing the connection is noticed after three of these, in milliseconds. */
const PING_INTERVAL = 10_000;
const DRAIN_TIMEOUT = 500;

/**
 * Connects as Nex nexlets do: seed and JWT, else nkey and seed, else user and password, else nothing; an empty list of
 * servers is the one on this machine. Once connected it reconnects for ever, also after refused credentials. Given a
 * function, it asks it before each connect, so that renewed credentials are used.
 *
 * @throws {NexletError} NEXLET_NATS_UNREACHABLE, NEXLET_NATS_REFUSED
 */
export async function connectWith(
  source: NatsConnectionData | (() => NatsConnectionData),
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<NatsConnection> {
  signal?.throwIfAborted();
  const current = typeof source === 'function' ? source : () => source;
  const data = current();
  const servers = data.nats_servers.length > 0 ? data.nats_servers : [DEFAULT_SERVER];
  let nc: NatsConnection;
  try {
    nc = await connect({
      servers,
      name: data.conn_name || 'nexlet',
      timeout: CONNECT_TIMEOUT,
      maxReconnectAttempts: -1,
      reconnectTimeWait: RECONNECT_WAIT,
      pingInterval: PING_INTERVAL,
      maxPingOut: 2,
      ignoreAuthErrorAbort: true,
      authenticator: (nonce) => authenticatorOf(current())(nonce),
      ...tlsOptions(data),
    });
  } catch (cause) {
    throw connectFailure(servers, cause);
  }
  if (signal?.aborted === true) {
    await nc.close();
    signal.throwIfAborted();
  }
  return nc;
}

/** Sends what is still to be sent, where a server takes it, and closes the connection. */
export async function closeConnection(nc: NatsConnection): Promise<void> {
  if (nc.isClosed()) return;
  // A drain never ends while no server is there.
  await Promise.race([nc[Symbol.asyncDispose](), delay(DRAIN_TIMEOUT, undefined, { ref: false })]);
  await nc.close();
}

function authenticatorOf(data: NatsConnectionData): Authenticator {
  const seed = new TextEncoder().encode(data.nats_user_seed);
  if (data.nats_user_seed !== '' && data.nats_user_jwt !== '') return jwtAuthenticator(data.nats_user_jwt, seed);
  if (data.nats_user_seed !== '' && data.nats_user_nkey !== '') return nkeyAuthenticator(seed);
  if (data.nats_user_name !== '') return usernamePasswordAuthenticator(data.nats_user_name, data.nats_user_password);
  return () => undefined;
}

function tlsOptions({ tls_ca, tls_cert, tls_key, tls_first }: NatsConnectionData): Pick<NodeConnectionOptions, 'tls'> {
  const tls = {
    ...(tls_ca === '' ? {} : { caFile: tls_ca }),
    ...(tls_cert === '' || tls_key === '' ? {} : { certFile: tls_cert, keyFile: tls_key }),
    ...(tls_first ? { handshakeFirst: true } : {}),
  };
  return Object.keys(tls).length === 0 ? {} : { tls };
}

function connectFailure(servers: readonly string[], cause: unknown): unknown {
  // Server URLs may carry a user and a password.
  const where = servers.map((server) => server.replace(/^([a-z]+:\/\/)?[^/]*@/i, '$1')).join(', ');
  if (cause instanceof errors.AuthorizationError || cause instanceof errors.UserAuthenticationExpiredError) {
    const message = `Cannot connect a nexlet to NATS at ${where}: the server refuses its credentials`;
    return new NexletError('NEXLET_NATS_REFUSED', message, { cause });
  }
  if (!(cause instanceof Error)) return cause;
  const message = `Cannot connect a nexlet to NATS at ${where}: ${cause.message.toLowerCase()}`;
  return new NexletError('NEXLET_NATS_UNREACHABLE', message, { cause });
}
