import { type NatsConnectionData, natsConnectionData } from '@nex-nix/protocol';
import { NexletError } from './nexlet-error.ts';

/** What a node tells a nexlet that it starts as a process. */
export interface LocalAssignment {
  /** What to register with. */
  readonly registration: NatsConnectionData;
  readonly nodeId: string;
  /** The id to register as. */
  readonly agentId: string;
  /** Nodes of this project only. */
  readonly nexus?: string;
}

/** Variables of Nex 0.4 (`internal/watcher.go`). */
const SERVERS = 'NEX_AGENT_NATS_SERVERS';
const SEED = 'NEX_AGENT_NATS_USER_SEED';
const JWT = 'NEX_AGENT_NATS_B64_JWT';
const USER = 'NEX_AGENT_NATS_USER';
const PASSWORD = 'NEX_AGENT_NATS_PASSWORD';
const NKEY = 'NEX_AGENT_NATS_USER_NKEY';
const NODE_ID = 'NEX_AGENT_NODE_ID';
const AGENT_ID = 'NEX_AGENT_ASSIGNED_ID';
/** Variables that nodes of this project add. */
const NEXUS = 'NEX_AGENT_NEXUS';
const TLS_CA = 'NEX_AGENT_NATS_TLS_CA';
const TLS_CERT = 'NEX_AGENT_NATS_TLS_CERT';
const TLS_KEY = 'NEX_AGENT_NATS_TLS_KEY';
const TLS_FIRST = 'NEX_AGENT_NATS_TLS_FIRST';

type Environment = Readonly<Record<string, string | undefined>>;

/** The environment that carries an assignment; the inverse of {@link readLocalEnvironment}. */
export function localEnvironment({ registration, nodeId, agentId, nexus }: LocalAssignment): Record<string, string> {
  const { tls_ca: ca, tls_cert: cert, tls_key: key, tls_first: first } = registration;
  return {
    [SERVERS]: registration.nats_servers.join(','),
    [SEED]: registration.nats_user_seed,
    [JWT]: Buffer.from(registration.nats_user_jwt).toString('base64'),
    [USER]: registration.nats_user_name,
    [PASSWORD]: registration.nats_user_password,
    [NKEY]: registration.nats_user_nkey,
    [NODE_ID]: nodeId,
    [AGENT_ID]: agentId,
    ...(nexus === undefined ? {} : { [NEXUS]: nexus }),
    ...(ca === '' ? {} : { [TLS_CA]: ca }),
    ...(cert === '' ? {} : { [TLS_CERT]: cert }),
    ...(key === '' ? {} : { [TLS_KEY]: key }),
    ...(first ? { [TLS_FIRST]: 'true' } : {}),
  };
}

/**
 * Reads what a node of this project or of Go Nex gave to the nexlet that it started.
 *
 * @throws {NexletError} NEXLET_ENVIRONMENT_INVALID
 */
export function readLocalEnvironment(env: Environment): LocalAssignment {
  const nexus = env[NEXUS] ?? '';
  return {
    registration: natsConnectionData({
      conn_name: env[AGENT_ID] ?? '',
      nats_servers: required(env, SERVERS)
        .split(',')
        .map((server) => server.trim())
        .filter((server) => server !== ''),
      nats_user_seed: env[SEED] ?? '',
      nats_user_jwt: Buffer.from(env[JWT] ?? '', 'base64').toString(),
      nats_user_name: env[USER] ?? '',
      nats_user_password: env[PASSWORD] ?? '',
      nats_user_nkey: env[NKEY] ?? '',
      tls_ca: env[TLS_CA] ?? '',
      tls_cert: env[TLS_CERT] ?? '',
      tls_key: env[TLS_KEY] ?? '',
      tls_first: env[TLS_FIRST] === 'true',
    }),
    nodeId: notEmpty(env, NODE_ID),
    agentId: notEmpty(env, AGENT_ID),
    ...(nexus === '' ? {} : { nexus }),
  };
}

function required(env: Environment, name: string): string {
  const value = env[name];
  if (value !== undefined) return value;
  throw new NexletError('NEXLET_ENVIRONMENT_INVALID', `Cannot run as a local nexlet: the variable ${name} is not set`, {
    hint: 'Let a node start this program, by its configuration ("agents"), or run it as a remote nexlet',
  });
}

function notEmpty(env: Environment, name: string): string {
  const value = required(env, name);
  if (value !== '') return value;
  throw new NexletError('NEXLET_ENVIRONMENT_INVALID', `Cannot run as a local nexlet: the variable ${name} is empty`);
}
