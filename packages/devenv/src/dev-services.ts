import { mkdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { ACCOUNT, type AccountUser, OPERATOR, type SystemUser } from './nsc/claims.ts';
import { AccountsTask } from './services/accounts-task.ts';
import { type ChosenServices, chooseServices } from './services/choose-services.ts';
import { ControlServer } from './control/control-server.ts';
import { describeEvent } from './describe-event.ts';
import type { DevControls, DevLogEntry, DevLogOptions, DevStatus, ServiceName } from './dev-controls.ts';
import { devEnvironment } from './dev-environment.ts';
import type { DevEvent, OnDevEvent } from './dev-event.ts';
import { DevLogFile } from './supervisor/dev-log.ts';
import type { DevServicesOptions } from './dev-options.ts';
import { devPaths } from './dev-paths.ts';
import { type DevPorts, rememberPorts } from './services/dev-ports.ts';
import { endOrphans } from './supervisor/end-orphans.ts';
import { lockFolder } from './folder-lock.ts';
import { ensureIdentities, type Identities } from './nsc/identities.ts';
import { NscStore } from './nsc/nsc-store.ts';
import { findNatsServer } from './services/server-binary.ts';
import { afterStart, type OnLine } from './supervisor/service.ts';
import { StatusWatch } from './supervisor/status-watch.ts';
import { Supervisor } from './supervisor/supervisor.ts';
import { readIfPresent } from './write-file.ts';

/** The binary cache of dev services. */
export interface DevCache {
  /** `http://127.0.0.1:port` */
  url: string;
  /** What the cache signs with, in Nix's syntax: for `trusted-public-keys`. */
  publicKey: string;
  /** File with the token that whoever writes over HTTP must show. */
  tokenFile: string;
  /** The token as Nix takes it: for `netrc-file`. */
  netrcFile: string;
}

interface Parts extends ChosenServices {
  dataDir: string;
  log: DevLogFile;
  store: NscStore;
  identities: Identities;
}

/**
 * What development with nex needs, on loopback: a nats-server in operator mode with JetStream, the operator `Nex`, its account `Exp` with users,
 * natscli contexts, the stream of logs and events, a binary cache with an HTTP door, a node. Disposing of it stops everything; the data stays
 * for the next start.
 */
export class DevServices implements DevControls, AsyncDisposable {
  readonly dataDir: string;
  /** Resolves when everything has stopped, also when another process has asked for that. */
  readonly ended: Promise<void>;
  readonly #ended = Promise.withResolvers<void>();
  readonly #parts: Parts;
  readonly #supervisor: Supervisor;
  readonly #watch = new StatusWatch();
  #environment: Record<string, string> = {};
  /** The lock, the log, the control socket. */
  readonly #stack: AsyncDisposableStack;
  #disposing: Promise<void> | undefined;

  private constructor(parts: Parts, stack: AsyncDisposableStack, onEvent: OnDevEvent) {
    this.dataDir = parts.dataDir;
    this.ended = this.#ended.promise;
    this.#parts = parts;
    this.#stack = stack;
    const { store, identities, nats, cache, node } = parts;
    const url = (): string => nats.url;
    const accounts = new AccountsTask({ configDir: this.dataDir, store, identities, url, onEvent });
    const ports = (): DevPorts => ({
      nats: portOf(nats.url),
      monitor: portOf(nats.monitorUrl),
      ...(cache?.service.url === undefined ? {} : { cache: portOf(cache.service.url) }),
    });
    const started = async (): Promise<void> => {
      await rememberPorts(this.dataDir, ports());
      this.#environment = await devEnvironment(this.dataDir);
    };
    const services = [
      nats,
      accounts,
      ...(cache === undefined ? [] : [cache.service]),
      ...(node === undefined ? [] : [node]),
    ];
    this.#supervisor = new Supervisor(
      services.map((service) => afterStart(service, started)),
      {
        say: (service, text) => this.#append({ service, source: 'supervisor', text }),
        changed: () => this.#watch.changed(),
      },
    );
  }

  /**
   * Starts everything, making what is missing and leaving what is there. When it fails, nothing is left running.
   * Errors: `DevError`; `NodeError` when the stream of logs and events cannot be made; `ContextError` when the server does not let us in.
   */
  static async start(options: DevServicesOptions): Promise<DevServices> {
    const { signal } = options;
    const dataDir = resolve(options.dataDir);
    const paths = devPaths(dataDir);
    const binary = await findNatsServer(options.natsServer, { signal });
    await mkdir(dataDir, { recursive: true });
    await using stack = new AsyncDisposableStack();
    stack.use(await lockFolder(paths.lock, dataDir));
    const log = stack.use(new DevLogFile(dataDir));
    let services: DevServices | undefined;
    const append = (entry: Omit<DevLogEntry, 'time'>): void => {
      if (services === undefined) log.append({ time: new Date().toISOString(), ...entry });
      else services.#append(entry);
    };
    const onEvent = (event: DevEvent): void => {
      const text = describeEvent(event);
      if (text !== undefined) append({ service: serviceOf(event), source: 'supervisor', text });
      options.onEvent?.(event);
    };
    for (const orphan of await endOrphans(dataDir, { signal })) onEvent({ type: 'orphan-ended', ...orphan });
    const store = await NscStore.open(paths.nsc, OPERATOR);
    const identities = await ensureIdentities(store, onEvent);
    const lines =
      (service: ServiceName): OnLine =>
      (source, text) =>
        append({ service, source, text });
    const parts = {
      dataDir,
      log,
      store,
      identities,
      ...(await chooseServices(options, { dataDir, binary, store, identities, lines })),
    };
    services = new DevServices(parts, stack.move(), onEvent);
    try {
      await services.#start(options);
    } catch (error) {
      await services[Symbol.asyncDispose]();
      throw error;
    }
    return services;
  }

  get url(): string {
    return this.#parts.nats.url;
  }

  get port(): number {
    return portOf(this.url);
  }

  /** URL of nats-server's HTTP monitoring. */
  get monitorUrl(): string {
    return this.#parts.nats.monitorUrl;
  }

  /** Process id of nats-server; another one after a restart. */
  get pid(): number {
    return this.#parts.nats.pid;
  }

  /** What `XDG_CONFIG_HOME` must be for natscli to see the contexts. */
  get configDir(): string {
    return this.dataDir;
  }

  /** Public key of the account `Exp`. */
  get accountPublicKey(): string {
    return this.#parts.identities.account.publicKey;
  }

  /** File with the seed of the signing key of `Exp`, which signs users of the account. */
  get accountSigningKeySeedFile(): string {
    return this.#parts.store.keyFile(this.#parts.identities.account.signingKey);
  }

  /** File with the seed of the operator's key that signs accounts; undefined when the store has none. */
  get operatorSeedFile(): string | undefined {
    const { operatorKey } = this.#parts.identities;
    return operatorKey === undefined ? undefined : this.#parts.store.keyFile(operatorKey);
  }

  /** The binary cache, unless it was not wanted. */
  get cache(): DevCache | undefined {
    const { cache } = this.#parts;
    if (cache?.service.url === undefined) return undefined;
    const { cacheToken, cacheNetrc } = devPaths(this.dataDir);
    return { url: cache.service.url, publicKey: cache.publicKey, tokenFile: cacheToken, netrcFile: cacheNetrc };
  }

  /** File with the secret key of the binary cache. Nodes need it too: each of them may sign. Without a cache it may be missing. */
  get cacheKeyFile(): string {
    return devPaths(this.dataDir).cacheKey;
  }

  /** Public key of the node; undefined without one. */
  get nodeId(): string | undefined {
    return this.#parts.node?.id;
  }

  credsFile(user: AccountUser | SystemUser): string {
    const { store, identities } = this.#parts;
    return store.credsFile(user === 'sys' ? identities.system.name : ACCOUNT, user);
  }

  /** The bearer JWT of the user `EchoService`. */
  async echoServiceJwt(): Promise<string> {
    const { store } = this.#parts;
    const file = store.userFile(ACCOUNT, 'EchoService');
    const jwt = await readIfPresent(file);
    if (jwt === undefined) throw store.damaged(`${file} has gone`);
    return jwt.trim();
  }

  /** Variables that point the tools `nats`, `nsc`, `nex` and Nix at these services. */
  env(): Record<string, string> {
    return { ...this.#environment };
  }

  async status(): Promise<DevStatus> {
    return {
      dataDir: this.dataDir,
      pid: process.pid,
      services: this.#supervisor.statuses,
      environment: this.env(),
    };
  }

  watch(signal?: AbortSignal): AsyncIterable<DevStatus> {
    return this.#watch.watch(() => this.status(), signal);
  }

  logs(options?: DevLogOptions): AsyncIterable<DevLogEntry> {
    return this.#parts.log.read(options);
  }

  restart(service: ServiceName): Promise<void> {
    return this.#supervisor.restart(service);
  }

  /** Stops everything in reverse order, and waits until it is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposing ??= this.#stop();
    await this.#disposing;
  }

  async #start({ signal, onControls }: DevServicesOptions): Promise<void> {
    const onDown = (): void => void this[Symbol.asyncDispose]().catch(() => undefined);
    const control = await ControlServer.start({ dataDir: this.dataDir, controls: this, onDown });
    this.#stack.use(control);
    this.#stack.defer(() => {
      // Before the socket: who watches from elsewhere gets what was said last.
      this.#parts.log[Symbol.dispose]();
      this.#watch[Symbol.dispose]();
    });
    this.#released = () => control.released();
    onControls?.(this);
    await this.#supervisor.start(signal);
  }

  /** Tells those who wait for the end that it has come. */
  #released: () => void = () => undefined;

  async #stop(): Promise<void> {
    try {
      await this.#supervisor[Symbol.asyncDispose]();
      await this.#stack.disposeAsync();
    } finally {
      this.#released();
      this.#ended.resolve();
    }
  }

  #append(entry: Omit<DevLogEntry, 'time'>): void {
    this.#parts.log.append({ time: new Date().toISOString(), ...entry });
    if (entry.source === 'supervisor') return;
    this.#supervisor.printed(entry.service, entry.text);
    this.#watch.printed();
  }
}

function serviceOf(event: DevEvent): ServiceName {
  return event.type === 'orphan-ended' ? event.service : 'accounts';
}

function portOf(url: string): number {
  return Number(new URL(url).port);
}
