import { randomBytes } from 'node:crypto';
import { chmod } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { NatsConnection } from '@nats-io/nats-core';
import { CacheError, CacheHttpServer, CacheService, type Logger } from '@nex-nix/cache';
import { connectContext } from '@nex-nix/nats-context';
import { formatPublicKey, formatSecretKey, generateSecretKey, parseSecretKey, type SecretKey } from '@nex-nix/nix';
import { DevError } from './dev-error.ts';
import type { OnDevEvent } from './dev-event.ts';
import { choosePort } from './ports.ts';
import { readIfPresent, writePrivateFile } from './write-file.ts';

const HTTP_PORT = 8080;
const HOST = '127.0.0.1';
const TOKEN_BYTES = 32;
/** What a token may be, wherever it came from: long enough not to be guessed, and one word for netrc. */
const TOKEN = /^\S{16,}$/;

/** Paths of what belongs to the cache, below the data folder. */
export function cachePaths(dataDir: string) {
  const folder = join(dataDir, 'cache');
  return {
    secretKey: join(folder, 'secret-key'),
    token: join(folder, 'token'),
    netrc: join(folder, 'netrc'),
  };
}

export interface DevCacheOptions {
  dataDir: string;
  /** A user who may do everything in the account. */
  user: { url: string; creds: string };
  /** Port of the HTTP door; 0: any free one. @default 8080 when it is free, else any free one */
  port: number | undefined;
  signal: AbortSignal | undefined;
  onEvent: OnDevEvent;
}

/** A binary cache in the account, and its HTTP door on loopback, with a key and a token that are kept. */
export class DevCache implements AsyncDisposable {
  /** `http://127.0.0.1:port` */
  readonly url: string;
  /** What the cache signs with, in Nix's syntax: for `trusted-public-keys`. */
  readonly publicKey: string;
  /** File with the token that whoever writes over HTTP must show. */
  readonly tokenFile: string;
  /** The token as Nix takes it: for `netrc-file`. */
  readonly netrcFile: string;
  readonly #stack: AsyncDisposableStack;

  private constructor(door: CacheHttpServer, dataDir: string, stack: AsyncDisposableStack) {
    const { token, netrc } = cachePaths(dataDir);
    this.url = door.url;
    this.publicKey = formatPublicKey(door.publicKey);
    this.tokenFile = token;
    this.netrcFile = netrc;
    this.#stack = stack;
  }

  /** Errors: `DevError` `DEVENV_PORT_TAKEN`, `DEVENV_CACHE_INVALID`; `CacheError`. */
  static async start(options: DevCacheOptions): Promise<DevCache> {
    const { dataDir, user, signal, onEvent } = options;
    const port = Math.max(0, await choosePort(options.port, HTTP_PORT));
    const secretKey = await ensureSecretKey(cachePaths(dataDir).secretKey);
    const token = await ensureToken(dataDir);
    await using stack = new AsyncDisposableStack();
    const nc = await connectContext(user, { name: 'nex dev cache', signal });
    stack.defer(() => nc.close());
    const logger = loggerTo(onEvent);
    stack.use(await CacheService.start(nc, { secretKey, logger, signal }));
    const door = stack.use(
      await listen(nc, { host: HOST, port, token, logger, signal }, { mayMove: options.port === undefined }),
    );
    return new DevCache(door, dataDir, stack.move());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

type DoorOptions = Parameters<typeof CacheHttpServer.start>[1] & { port: number };

/** The usual port that somebody else takes in that moment is left to them. */
async function listen(
  nc: NatsConnection,
  options: DoorOptions,
  { mayMove }: { mayMove: boolean },
): Promise<CacheHttpServer> {
  try {
    return await CacheHttpServer.start(nc, options);
  } catch (error) {
    const isTaken = error instanceof CacheError && error.code === 'CACHE_LISTEN_FAILED';
    if (!isTaken || !mayMove || options.port === 0) throw error;
    return CacheHttpServer.start(nc, { ...options, port: 0 });
  }
}

async function ensureSecretKey(file: string): Promise<SecretKey> {
  const present = await readPrivateFile(file);
  if (present !== undefined) {
    try {
      return parseSecretKey(present);
    } catch (cause) {
      throw invalid(`the key of the cache in "${file}"`, { why: (cause as Error).message, file, cause });
    }
  }
  const key = generateSecretKey(`nex-dev-${hostname()}`);
  await writePrivateFile(file, `${formatSecretKey(key)}\n`);
  return key;
}

async function ensureToken(dataDir: string): Promise<string> {
  const { token: file, netrc } = cachePaths(dataDir);
  const present = await readPrivateFile(file);
  if (present !== undefined && !TOKEN.test(present)) {
    throw invalid(`the token of the cache in "${file}"`, { why: 'it needs 16 characters, no spaces', file });
  }
  const token = present ?? randomBytes(TOKEN_BYTES).toString('base64url');
  if (present === undefined) await writePrivateFile(file, `${token}\n`);
  await writePrivateFile(netrc, `machine ${HOST} login nex password ${token}\n`);
  return token;
}

/** The trimmed text of a file that is nobody else's business, whatever its mode was; undefined when there is none. */
async function readPrivateFile(file: string): Promise<string | undefined> {
  const text = await readIfPresent(file);
  if (text !== undefined) await chmod(file, 0o600);
  return text?.trim();
}

function invalid(what: string, { why, file, cause }: { why: string; file: string; cause?: unknown }): DevError {
  return new DevError('DEVENV_CACHE_INVALID', `Cannot use ${what}: ${why}`, {
    hint: `Put back what it was; or have a new one made: rm ${file}`,
    cause,
  });
}

/** What goes well is not worth telling: a copy by Nix makes hundreds of requests. */
function loggerTo(onEvent: OnDevEvent): Logger {
  return {
    info: () => undefined,
    error: ({ err, ...fields }, message) => onEvent({ type: 'cache-failure', message, fields, error: err }),
  };
}
