import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { NatsConnection } from '@nats-io/nats-core';
import { connectContext } from '@nex-nix/nats-context';
import { ensureFeedStream } from '@nex-nix/node';
import { FEED_STREAM } from '@nex-nix/protocol';
import { ACCOUNT, type AccountUser, OPERATOR, SYSTEM_ACCOUNT, type SystemUser } from './claims.ts';
import { DevError } from './dev-error.ts';
import { cachePaths, DevCache } from './dev-cache.ts';
import { ensureContext } from './dev-contexts.ts';
import type { OnDevEvent } from './dev-event.ts';
import { lockFolder } from './folder-lock.ts';
import { ensureIdentities, type Identities, setServiceUrl } from './identities.ts';
import { endOrphan } from './nats-server.ts';
import { NscStore } from './nsc-store.ts';
import { ANY_PORT, choosePort } from './ports.ts';
import { pushAccount } from './push-account.ts';
import { findNatsServer } from './server-binary.ts';
import { type ServerConfig, serverPaths } from './server-config.ts';
import { SupervisedServer } from './supervised-server.ts';
import { readIfPresent } from './write-file.ts';

const NATS_PORT = 4222;
const MONITOR_PORT = 8222;

export interface DevServicesOptions {
  /** Everything lies below this folder. Made when it is not there. */
  dataDir: string;
  /** Port of nats-server; 0: any free one. @default 4222 when it is free, else any free one */
  port?: number | undefined;
  /** Port of nats-server's monitoring; 0: any free one. @default 8222 when it is free, else any free one */
  monitorPort?: number | undefined;
  /** Whether there is a binary cache with an HTTP door. @default true */
  cache?: boolean | undefined;
  /** Port of that door; 0: any free one. @default 8080 when it is free, else any free one */
  cachePort?: number | undefined;
  /** Name or path of nats-server. @default "nats-server", on PATH or in the sbin folders */
  natsServer?: string | undefined;
  /** Gives up starting. What was started by then is stopped. */
  signal?: AbortSignal | undefined;
  onEvent?: OnDevEvent | undefined;
}

/**
 * The NATS services that development needs, on loopback: a nats-server in operator mode with JetStream, the operator `Nex`, its account `Exp`
 * with users, natscli contexts, the stream of logs and events, a binary cache with an HTTP door. Disposing of it stops the server; the data stays for the next start.
 */
export class DevServices implements AsyncDisposable {
  readonly dataDir: string;
  readonly #server: SupervisedServer;
  readonly #store: NscStore;
  readonly #identities: Identities;
  #cache: DevCache | undefined;
  /** Everything that runs, and the lock. Empty until the start has succeeded: until then they belong to `start`. */
  #stack = new AsyncDisposableStack();
  #disposing: Promise<void> | undefined;

  private constructor(dataDir: string, parts: { server: SupervisedServer; store: NscStore; identities: Identities }) {
    this.dataDir = dataDir;
    this.#server = parts.server;
    this.#store = parts.store;
    this.#identities = parts.identities;
  }

  /**
   * Starts everything, making what is missing and leaving what is there. When it fails, nothing is left running.
   * Errors: `DevError`; `NodeError` when the stream of logs and events cannot be made; `ContextError` when the server does not let us in; `CacheError` when the cache does not start.
   */
  static async start(options: DevServicesOptions): Promise<DevServices> {
    const { signal, onEvent = () => undefined } = options;
    const dataDir = resolve(options.dataDir);
    const folder = join(dataDir, 'nats');
    const binary = await findNatsServer(options.natsServer, { signal });
    await mkdir(dataDir, { recursive: true });
    await using stack = new AsyncDisposableStack();
    stack.use(await lockFolder(join(folder, 'devenv.lock'), dataDir));
    const orphan = await endOrphan(folder, { signal });
    if (orphan !== undefined) onEvent({ type: 'orphan-ended', pid: orphan });
    const store = new NscStore(join(dataDir, 'nsc'), OPERATOR);
    const identities = await ensureIdentities(store, onEvent);
    const { publicKey: systemAccount, jwt: systemAccountJwt } = identities.system;
    const config = { folder, operatorFile: store.operatorFile, systemAccount, systemAccountJwt };
    const server = stack.use(
      await onFreePorts(options, (ports) =>
        SupervisedServer.start({ binary, config: { ...config, ...ports }, signal, onEvent }),
      ),
    );
    const services = new DevServices(dataDir, { server, store, identities });
    await services.#setUp(onEvent, signal);
    if (options.cache !== false) {
      const user = { url: services.url, creds: services.credsFile('Node') };
      const cache = await DevCache.start({ dataDir, user, port: options.cachePort, signal, onEvent });
      services.#cache = stack.use(cache);
      onEvent({ type: 'cache-started', url: cache.url });
    }
    services.#stack = stack.move();
    return services;
  }

  get url(): string {
    return this.#server.url;
  }

  get port(): number {
    return this.#server.port;
  }

  /** URL of nats-server's HTTP monitoring. */
  get monitorUrl(): string {
    return this.#server.monitorUrl;
  }

  /** Process id of nats-server; another one after a restart. */
  get pid(): number {
    return this.#server.pid;
  }

  /** What `XDG_CONFIG_HOME` must be for natscli to see the contexts. */
  get configDir(): string {
    return this.dataDir;
  }

  /** Public key of the account `Exp`. */
  get accountPublicKey(): string {
    return this.#identities.account.publicKey;
  }

  /** File with the seed of the signing key of `Exp`, which signs users of the account. */
  get accountSigningKeySeedFile(): string {
    return this.#store.keyFile(this.#identities.account.signingKey);
  }

  /** File with the seed of the operator's key that signs accounts. */
  get operatorSeedFile(): string {
    return this.#store.keyFile(this.#identities.operatorKey);
  }

  /** The binary cache, unless it was not wanted. */
  get cache(): DevCache | undefined {
    return this.#cache;
  }

  /** File with the secret key of the binary cache. Nodes need it too: each of them may sign. Without a cache it may be missing. */
  get cacheKeyFile(): string {
    return cachePaths(this.dataDir).secretKey;
  }

  credsFile(user: AccountUser | SystemUser): string {
    return this.#store.credsFile(user === 'sys' ? SYSTEM_ACCOUNT : ACCOUNT, user);
  }

  /** The bearer JWT of the user `EchoService`. */
  async echoServiceJwt(): Promise<string> {
    const file = this.#store.userFile(ACCOUNT, 'EchoService');
    const jwt = await readIfPresent(file);
    if (jwt === undefined) throw this.#store.damaged(`${file} has gone`);
    return jwt.trim();
  }

  /** Environment that points the tools `nats` and `nsc` at these services. */
  env(): Record<string, string> {
    const folder = join(this.dataDir, 'nats');
    return {
      NATS_HOME: folder,
      NATS_JWT_DIR: serverPaths(folder).jwt,
      NSC_HOME: this.#store.root,
      NKEYS_PATH: this.#store.root,
      XDG_CONFIG_HOME: this.configDir,
    };
  }

  /** Stops the cache and nats-server, and waits until they are gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposing ??= this.#stack.disposeAsync();
    await this.#disposing;
  }

  async #setUp(onEvent: OnDevEvent, signal: AbortSignal | undefined): Promise<void> {
    const { account } = this.#identities;
    await setServiceUrl(this.#store, this.url);
    await this.#connected('sys', signal, async (nc) => {
      onEvent({ type: 'account', name: account.name, outcome: await pushAccount(nc, account) });
    });
    const contexts = { Sys: 'sys', ExpAdmin: 'Admin', ExpNode: 'Node' } as const;
    for (const [name, user] of Object.entries(contexts)) {
      await ensureContext(this.configDir, { name, url: this.url, creds: this.credsFile(user) }, onEvent);
    }
    await this.#connected('Admin', signal, async (nc) => {
      onEvent({ type: 'stream', name: FEED_STREAM, created: await ensureFeedStream(nc) });
    });
  }

  async #connected(
    user: AccountUser | SystemUser,
    signal: AbortSignal | undefined,
    use: (nc: NatsConnection) => Promise<void>,
  ): Promise<void> {
    const context = { url: this.url, creds: this.credsFile(user) };
    const nc = await connectContext(context, { name: 'nex dev', reconnect: false, signal });
    try {
      await use(nc);
    } finally {
      await nc.close();
    }
    signal?.throwIfAborted();
  }
}

type Ports = Pick<ServerConfig, 'port' | 'monitorPort'>;

/** Starts on the wanted or usual ports. A usual one that somebody else takes in that moment is left to them. */
async function onFreePorts<T>(wanted: DevServicesOptions, start: (ports: Ports) => Promise<T>): Promise<T> {
  const ports = {
    port: await choosePort(wanted.port, NATS_PORT),
    monitorPort: await choosePort(wanted.monitorPort, MONITOR_PORT),
  };
  try {
    return await start(ports);
  } catch (error) {
    if (!(error instanceof DevError) || error.code !== 'DEVENV_PORT_TAKEN') throw error;
    const other: Ports = {
      port: wanted.port === undefined ? ANY_PORT : ports.port,
      monitorPort: wanted.monitorPort === undefined ? ANY_PORT : ports.monitorPort,
    };
    if (other.port === ports.port && other.monitorPort === ports.monitorPort) throw error;
    return start(other);
  }
}
