import { CACHE_HOST } from './cache-secrets.ts';
import type { DevError } from '../dev-error.ts';
import { devPaths } from '../dev-paths.ts';
import { untilHttpReady } from './http-ready.ts';
import { NexFailure, startNexChild } from './nex-child.ts';
import { portTaken } from './ports.ts';
import type { OnLine, Run, Service } from '../supervisor/service.ts';

const READY_TIMEOUT_MS = 60_000;
/** Longer than the ten seconds for which the door waits for requests under way. */
const STOP_GRACE_MS = 15_000;

export interface CacheServiceOptions {
  dataDir: string;
  /** How nex is run. */
  command: readonly string[];
  /** 0: any free one. */
  port: number;
  /** Whether another port may be taken when that one turns out to be taken. */
  mayMove: boolean;
  onLine: OnLine;
}

/** `nex cache serve` with the service of the cache, for Nix clients of this machine: on the port of its first start ever after. */
export class CacheService implements Service {
  readonly name = 'cache';
  readonly after = ['accounts'] as const;
  readonly #options: CacheServiceOptions;
  #port: number;
  #url: string | undefined;

  constructor(options: CacheServiceOptions) {
    this.#options = options;
    this.#port = options.port;
  }

  /** Undefined before the first start. */
  get url(): string | undefined {
    return this.#url;
  }

  async start(signal: AbortSignal): Promise<Run> {
    try {
      return await this.#startOnce(signal);
    } catch (error) {
      if (!isPortTaken(error)) throw error;
      const isFirst = this.#url === undefined;
      if (!isFirst || !this.#options.mayMove || this.#port === 0) throw await portTaken(this.#port, error);
      this.#port = 0;
      return this.#startOnce(signal);
    }
  }

  async #startOnce(signal: AbortSignal): Promise<Run> {
    const { dataDir, command, onLine } = this.#options;
    const paths = devPaths(dataDir);
    const child = await startNexChild({
      command,
      args: [
        ['--context', 'ExpNode', 'cache', 'serve', '--listen', `${CACHE_HOST}:${this.#port}`],
        ['--service-key-file', paths.cacheKey, '--token-file', paths.cacheToken],
      ].flat(),
      env: { XDG_CONFIG_HOME: dataDir },
      what: 'the cache',
      ready: 'binary cache ready',
      readyTimeoutMs: READY_TIMEOUT_MS,
      graceMs: STOP_GRACE_MS,
      signal,
      onLine,
    });
    try {
      const url = String(child.record['url']);
      await untilHttpReady(`${url}/nix-cache-info`, AbortSignal.any([signal, AbortSignal.timeout(READY_TIMEOUT_MS)]));
      this.#url = url;
      this.#port = Number(new URL(url).port);
      return { ...child, url };
    } catch (error) {
      await child[Symbol.asyncDispose]();
      throw error;
    }
  }
}

function isPortTaken(error: unknown): boolean {
  const { cause } = error as DevError;
  return cause instanceof NexFailure && cause.code === 'CACHE_LISTEN_FAILED';
}
