import type { NatsConnection } from '@nats-io/nats-core';
import { type ConnectOptions, connectContext } from './connect-context.ts';
import { type ContextFolderOptions, loadContext, selectedContext } from './context-folder.ts';
import { natsContext, type NatsContext } from './nats-context.ts';
import { parseServerUrls } from './server-url.ts';

export interface NatsTarget extends ContextFolderOptions {
  /** Name of a natscli context. */
  context?: string | undefined;
  /** Server URLs, separated by commas. */
  servers?: string | undefined;
  /** Path of a creds file. */
  creds?: string | undefined;
  /** Where `NATS_URL`, `NATS_CREDS` and `NATS_CONTEXT` are looked up. @default process.env */
  env?: NodeJS.ProcessEnv | undefined;
}

/** Connects to where {@link resolveTarget} says. Errors: those of `loadContext` and `connectContext`. */
export async function connectNats(options: NatsTarget & ConnectOptions = {}): Promise<NatsConnection> {
  return connectContext(await resolveTarget(options), options);
}

/**
 * Finds out where to connect and as whom. Server and credentials are each taken from the first that has them:
 * `servers` and `creds`; the context named by `context`; `NATS_URL` and `NATS_CREDS`; the context named by `NATS_CONTEXT`;
 * the selected context; `nats://127.0.0.1:4222` without credentials.
 * Credentials of one source take the place of all credentials of the later ones.
 */
export async function resolveTarget(target: NatsTarget = {}): Promise<NatsContext> {
  const { env = process.env } = target;
  const base = await baseContext(target, env);
  const named = target.context !== undefined;
  const url = target.servers ?? (named ? undefined : env['NATS_URL']);
  const creds = target.creds ?? (named ? undefined : env['NATS_CREDS']);
  const ownCredentials = isSet(creds) || (isSet(url) && parseServerUrls(url).userInfo !== undefined);
  return {
    ...base,
    ...(ownCredentials ? NOBODY : {}),
    ...(isSet(url) ? { url } : {}),
    ...(isSet(creds) ? { creds } : {}),
  };
}

const NOBODY = { user: '', password: '', token: '', creds: '', nkey: '', user_jwt: '', user_seed: '', nsc: '' };

async function baseContext(target: NatsTarget, env: NodeJS.ProcessEnv): Promise<NatsContext> {
  if (target.context !== undefined) return loadContext(target.context, target);
  if (isSet(env['NATS_CONTEXT'])) return loadContext(env['NATS_CONTEXT'], target);
  const selected = await selectedContext(target);
  return selected === undefined ? natsContext() : loadContext(selected, target);
}

function isSet(value: string | undefined): value is string {
  return value !== undefined && value !== '';
}
