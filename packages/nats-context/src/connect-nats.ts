import type { NatsConnection } from '@nats-io/nats-core';
import { type ConnectOptions, connectContext } from './connect-context.ts';
import { type ContextFolderOptions, loadContext, selectedContext } from './context-folder.ts';
import { natsContext, type NatsContext } from './nats-context.ts';
import { parseServerUrls } from './server-url.ts';

/** What one source says of where to connect and as whom; an empty text says nothing. */
export interface NatsSettings {
  /** Name of a natscli context. What else the same source says takes the place of the context's fields. */
  context?: string | undefined;
  /** Server URLs, separated by commas. */
  servers?: string | undefined;
  /** Path of a creds file. */
  creds?: string | undefined;
  /** A user JWT; with `seed`, unless it is a bearer JWT. */
  jwt?: string | undefined;
  /** A user's seed, `SU…`, or the path of a file with it: of the `jwt`, or alone as an nkey. */
  seed?: string | undefined;
  user?: string | undefined;
  password?: string | undefined;
  token?: string | undefined;
  /** Paths of TLS certificate, its key, and the certificates of authorities. */
  tlsCert?: string | undefined;
  tlsKey?: string | undefined;
  tlsCa?: string | undefined;
  /** TLS before the server says anything. */
  tlsFirst?: boolean | undefined;
  /** JetStream domain, for what asks `jetstream_domain` of the resolved context. */
  jetstreamDomain?: string | undefined;
}

export interface NatsTarget extends NatsSettings, ContextFolderOptions {
  /** What a configuration file says: gives way to the rest of the target, and comes before the environment. */
  configured?: NatsSettings | undefined;
  /** Where `NATS_URL` and its like are looked up. @default process.env */
  env?: NodeJS.ProcessEnv | undefined;
}

/** Connects to where {@link resolveTarget} says. Errors: those of `loadContext` and `connectContext`. */
export async function connectNats(options: NatsTarget & ConnectOptions = {}): Promise<NatsConnection> {
  return connectContext(await resolveTarget(options), options);
}

/**
 * Finds out where to connect and as whom. Sources, the strongest first: the target itself; `configured`; the environment
 * (`NATS_URL`, `NATS_CONTEXT`, `NATS_CREDS`, `NATS_JWT`, `NATS_SEED`, `NATS_NKEY`, `NATS_USER`, `NATS_PASSWORD`, `NATS_TOKEN`,
 * `NATS_CERT`, `NATS_KEY`, `NATS_CA`); the context that natscli has selected; `nats://127.0.0.1:4222` without credentials.
 * A context named by a source hides all weaker ones. Otherwise each thing is taken from the strongest source that says it,
 * and credentials of one source take the place of all credentials of weaker ones.
 */
export async function resolveTarget(target: NatsTarget = {}): Promise<NatsContext> {
  const { env = process.env, configured = {} } = target;
  const sources = [target, configured, fromEnvironment(env)];
  const naming = sources.findIndex((source) => isSet(source.context));
  const name = sources[naming]?.context ?? (await selectedContext(target));
  let resolved = name === undefined ? natsContext() : await loadContext(name, target);
  const counting = naming === -1 ? sources : sources.slice(0, naming + 1);
  for (const source of counting.toReversed()) resolved = { ...resolved, ...fieldsOf(source) };
  return resolved;
}

function fromEnvironment(env: NodeJS.ProcessEnv): NatsSettings {
  return {
    context: env['NATS_CONTEXT'],
    servers: env['NATS_URL'],
    creds: env['NATS_CREDS'],
    jwt: env['NATS_JWT'],
    seed: env['NATS_SEED'] ?? env['NATS_NKEY'],
    user: env['NATS_USER'],
    password: env['NATS_PASSWORD'],
    token: env['NATS_TOKEN'],
    tlsCert: env['NATS_CERT'],
    tlsKey: env['NATS_KEY'],
    tlsCa: env['NATS_CA'],
  };
}

const NOBODY = { user: '', password: '', token: '', creds: '', nkey: '', user_jwt: '', user_seed: '', nsc: '' };

/** The fields of a context that a source sets. */
function fieldsOf(source: NatsSettings): Partial<NatsContext> {
  const { servers, tlsCert, tlsKey, tlsCa, tlsFirst, jetstreamDomain } = source;
  const identity = identityOf(source);
  const inUrl = isSet(servers) && parseServerUrls(servers).userInfo !== undefined;
  return {
    ...(identity !== undefined || inUrl ? { ...NOBODY, ...identity } : {}),
    ...(isSet(servers) ? { url: servers } : {}),
    ...(isSet(tlsCert) ? { cert: tlsCert } : {}),
    ...(isSet(tlsKey) ? { key: tlsKey } : {}),
    ...(isSet(tlsCa) ? { ca: tlsCa } : {}),
    ...(tlsFirst === true ? { tls_first: true } : {}),
    ...(isSet(jetstreamDomain) ? { jetstream_domain: jetstreamDomain } : {}),
  };
}

/** Who connects, in the order in which Go nex takes it: creds, JWT and seed, seed, user; undefined when the source does not say. */
function identityOf({ creds, jwt, seed, user, password, token }: NatsSettings): Partial<NatsContext> | undefined {
  const beside = isSet(token) ? { token } : {};
  if (isSet(creds)) return { creds, ...beside };
  if (isSet(jwt)) return { user_jwt: jwt, ...(isSet(seed) ? { user_seed: seed } : {}), ...beside };
  if (isSet(seed)) return { nkey: isSeed(seed) ? inline(seed) : seed, ...beside };
  // As natscli reads it: a user alone is a token.
  if (isSet(user)) return isSet(password) ? { user, password, ...beside } : { token: user };
  return isSet(token) ? { token } : undefined;
}

function isSeed(text: string): boolean {
  return /^SU[A-Z2-7]{56}$/.test(text.trim());
}

/** A context names a file with a seed; this is how it holds the seed itself. */
function inline(seed: string): string {
  return `data:;base64,${Buffer.from(seed).toString('base64')}`;
}

function isSet(value: string | undefined): value is string {
  return value !== undefined && value !== '';
}
