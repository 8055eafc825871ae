import type { Logger } from '@nex-nix/nexlet';
import type { Gateway } from '@nex-nix/sandbox';
import { RelayListener, type RelayTarget } from './relay-listener.ts';
import { RelayPorts } from './relay-ports.ts';
import { parseServerUrl } from './server-url.ts';

/** How often the bridge may vanish, with the last sandbox at it, between being made and being listened at. */
const ATTEMPTS = 5;

export interface NatsRelayOptions {
  gateway: Gateway;
  /** Where ports are kept. */
  stateFile: string;
  logger: Logger;
}

/** What a workload at the bridge is told instead of the node's own servers. */
export interface ReachableServers {
  servers: string[];
  /** Names by address, for its `/etc/hosts`. */
  hosts: Record<string, string[]>;
}

/**
 * Brings workloads at the bridge to the NATS servers of their node: a TCP forwarder at this machine's address there, one
 * port a server. It listens from the first such workload on, and adds nothing of the node's own: who a workload is, it
 * has to tell the server by itself.
 */
export class NatsRelay implements AsyncDisposable {
  readonly #gateway: Gateway;
  readonly #ports: RelayPorts;
  readonly #logger: Logger;
  /** By server, as `host:port`. */
  readonly #listeners = new Map<string, RelayListener>();
  #address: string | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  private constructor({ gateway, logger }: NatsRelayOptions, ports: RelayPorts) {
    this.#gateway = gateway;
    this.#logger = logger;
    this.#ports = ports;
  }

  /** Listens to nothing yet. */
  static async open(options: NatsRelayOptions): Promise<NatsRelay> {
    return new NatsRelay(options, await RelayPorts.open(options.stateFile));
  }

  /** Listens again where an earlier node did, when sandboxes are at the bridge that may come back. */
  async resume(): Promise<void> {
    await this.#alone(async () => {
      const servers = this.#ports.servers();
      if (servers.length === 0 || !(await this.#gateway.exists())) return;
      await this.#listenFor(servers.flatMap((server) => parseServerUrl(server)?.target ?? []));
    });
  }

  /**
   * What leads a workload at the bridge to these servers. Names are kept, since certificates bear them, and stand for this
   * machine in its `/etc/hosts`; addresses are replaced.
   */
  async reach(urls: readonly string[]): Promise<ReachableServers> {
    const parsed = urls.map((text) => ({ text, url: parseServerUrl(text) }));
    const address = await this.#alone(() => this.#listenFor(parsed.flatMap(({ url }) => url?.target ?? [])));
    if (address === undefined) return { servers: [...urls], hosts: {} };
    const names = new Set<string>();
    const servers = parsed.map(({ text, url }) => {
      const port = url === undefined ? undefined : this.#listeners.get(keyOf(url.target))?.port;
      if (url === undefined || port === undefined) return text;
      if (url.named) names.add(url.target.host);
      return url.at(url.named ? url.target.host : address, port);
    });
    return { servers, hosts: names.size === 0 ? {} : { [address]: [...names] } };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.#last;
    await Promise.all([...this.#listeners.values()].map((listener) => listener[Symbol.asyncDispose]()));
    this.#listeners.clear();
  }

  /** This machine's address at the bridge; undefined where it has none to listen at. */
  async #listenFor(targets: readonly RelayTarget[]): Promise<string | undefined> {
    const missing = targets.filter((target) => !this.#listeners.has(keyOf(target)));
    if (missing.length === 0 || this.#closed) return this.#address;
    for (const target of missing) {
      if (this.#listeners.has(keyOf(target))) continue;
      const listener = await this.#listen(target);
      if (listener === undefined) return undefined;
      this.#listeners.set(keyOf(target), listener);
      await this.#ports.set(keyOf(target), listener.port);
      this.#logger.info({ ...target, at: `${this.#address}:${listener.port}` }, 'workloads at the bridge reach NATS');
    }
    await this.#gateway.allow([...this.#listeners.values()].map(({ port }) => port));
    return this.#address;
  }

  async #listen(target: RelayTarget): Promise<RelayListener | undefined> {
    for (let attempt = 1; ; attempt++) {
      const host = await this.#gateway.open();
      this.#address = host;
      if (host === undefined) return undefined;
      try {
        return await this.#listenAt(target, host);
      } catch (error) {
        if (!hasCode(error, 'EADDRNOTAVAIL') || attempt === ATTEMPTS) throw error;
      }
    }
  }

  /** At the port that it had before, else at the server's own, else at one that is derived from it. */
  async #listenAt(target: RelayTarget, host: string): Promise<RelayListener> {
    const kept = this.#ports.get(keyOf(target));
    const derived = [0, 10_000, 20_000, 30_000, 40_000]
      .map((step) => target.port + step)
      .filter((port) => port < 65_536);
    for (const port of new Set([...(kept === undefined ? [] : [kept]), ...derived])) {
      try {
        return await RelayListener.open(target, { host, port }, this.#logger);
      } catch (error) {
        if (!hasCode(error, 'EADDRINUSE')) throw error;
      }
      if (port === kept)
        this.#logger.error({ ...target, port }, 'the port of the NATS relay is in use; workloads lose NATS');
    }
    return RelayListener.open(target, { host, port: 0 }, this.#logger);
  }

  /** One at a time: two workloads that start at once want the same listener. */
  #alone<T>(task: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(task);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}

function keyOf({ host, port }: RelayTarget): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function hasCode(error: unknown, code: string): boolean {
  return (error as NodeJS.ErrnoException).code === code;
}
