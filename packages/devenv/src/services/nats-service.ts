import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Child, describeExit, type Exit } from '../supervisor/child.ts';
import { DevError } from '../dev-error.ts';
import { untilHttpReady } from './http-ready.ts';
import { ANY_PORT, portTaken } from './ports.ts';
import { formatServerConfig, type ServerConfig, serverPaths } from './server-config.ts';
import type { OnLine, Run, Service } from '../supervisor/service.ts';
import { ensurePrivateFile, readIfPresent } from '../write-file.ts';

/** JetStream reads its streams before the server listens, which takes long when there is much in them. */
const READY_TIMEOUT_MS = 60_000;
const POLL_MS = 10;
const STOP_GRACE_MS = 5000;
/** Of what it has printed, for its failure. */
const KEPT_LINES = 50;

export interface NatsServiceOptions {
  binary: string;
  /** Ports are {@link ANY_PORT}, or free ones. */
  config: ServerConfig;
  /** Whether another port may be taken when the one of the configuration turns out to be taken. */
  mayMove: { port: boolean; monitorPort: boolean };
  onLine: OnLine;
}

/** nats-server: on the ports of its first start ever after. */
export class NatsService implements Service {
  readonly name = 'nats';
  readonly after = [];
  readonly #options: NatsServiceOptions;
  #ports: Pick<ServerConfig, 'port' | 'monitorPort'>;
  #urls: Urls | undefined;
  #pid = -1;

  constructor(options: NatsServiceOptions) {
    this.#options = options;
    this.#ports = options.config;
  }

  get url(): string {
    return this.#started.nats;
  }

  get monitorUrl(): string {
    return this.#started.monitoring;
  }

  /** Of the run that is current, or was the last. */
  get pid(): number {
    return this.#pid;
  }

  async start(signal: AbortSignal): Promise<Run> {
    const run = await this.#startOnFreePorts(signal);
    const { nats, monitoring } = this.#started;
    this.#ports = { port: Number(new URL(nats).port), monitorPort: Number(new URL(monitoring).port) };
    return run;
  }

  get #started(): Urls {
    if (this.#urls === undefined) throw new TypeError('nats-server was not started yet');
    return this.#urls;
  }

  /** A usual port that somebody else takes in that moment is left to them, at the first start. */
  async #startOnFreePorts(signal: AbortSignal): Promise<Run> {
    try {
      return await this.#startOnce(signal);
    } catch (error) {
      const isFirst = this.#urls === undefined;
      if (!isFirst || !(error instanceof DevError) || error.code !== 'DEVENV_PORT_TAKEN') throw error;
      const { mayMove } = this.#options;
      const { port, monitorPort } = this.#ports;
      this.#ports = {
        port: mayMove.port ? ANY_PORT : port,
        monitorPort: mayMove.monitorPort ? ANY_PORT : monitorPort,
      };
      if (this.#ports.port === port && this.#ports.monitorPort === monitorPort) throw error;
      return this.#startOnce(signal);
    }
  }

  async #startOnce(signal: AbortSignal): Promise<Run> {
    const { binary, onLine } = this.#options;
    const config = { ...this.#options.config, ...this.#ports };
    const paths = serverPaths(config.folder);
    await rm(paths.ports, { recursive: true, force: true });
    await mkdir(paths.ports, { recursive: true, mode: 0o700 });
    await ensurePrivateFile(paths.config, formatServerConfig(config));
    const output: string[] = [];
    const child = new Child({
      command: [binary, '-c', paths.config],
      env: process.env,
      graceMs: STOP_GRACE_MS,
      onLine: (source, line) => {
        output.push(line);
        if (output.length > KEPT_LINES) output.shift();
        onLine(source, withoutTime(line));
      },
    });
    try {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(READY_TIMEOUT_MS)]);
      const urls = await untilReady(paths.ports, child, limit).catch((error: unknown) => {
        signal.throwIfAborted();
        throw limit.aborted ? failure(`it is not ready after ${READY_TIMEOUT_MS / 1000} s`) : error;
      });
      if (urls === undefined) throw await startFailure(config, await child.exited, output);
      this.#urls = urls;
      this.#pid = child.pid;
      return {
        pid: child.pid,
        url: urls.nats,
        ended: child.exited.then(describeExit),
        [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
      };
    } catch (error) {
      await child[Symbol.asyncDispose]();
      throw error;
    }
  }
}

interface Urls {
  nats: string;
  monitoring: string;
}

/** The server's URLs once it answers, or undefined when it ended. */
async function untilReady(folder: string, child: Child, signal: AbortSignal): Promise<Urls | undefined> {
  const urls = await untilListening(folder, child, signal);
  if (urls === undefined) return undefined;
  const over = new AbortController();
  const healthy = untilHttpReady(`${urls.monitoring}/healthz`, AbortSignal.any([signal, over.signal]));
  // It may end while it is asked; then nobody waits for the answer any more.
  healthy.catch(() => undefined);
  const ended = await Promise.race([healthy.then(() => false), child.exited.then(() => true)]);
  over.abort();
  return ended ? undefined : urls;
}

/** It writes the file with its ports when all of them are open, but not in one step. */
async function untilListening(folder: string, child: Child, signal: AbortSignal): Promise<Urls | undefined> {
  while (!child.isGone) {
    const name = (await readdir(folder)).find((file) => file.endsWith(`_${child.pid}.ports`));
    const urls = name === undefined ? undefined : parseUrls(await readIfPresent(join(folder, name)));
    if (urls !== undefined) return urls;
    await delay(POLL_MS, undefined, { signal });
  }
  return undefined;
}

function parseUrls(text: string | undefined): Urls | undefined {
  try {
    const json = JSON.parse(text ?? '') as { nats?: string[]; monitoring?: string[] };
    const [nats, monitoring] = [json.nats?.[0], json.monitoring?.[0]];
    return nats === undefined || monitoring === undefined ? undefined : { nats, monitoring };
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

async function startFailure(config: ServerConfig, exit: Exit, output: readonly string[]): Promise<DevError> {
  const line = fatalLine(output);
  if (/address already in use/i.test(line)) {
    const port = [config.port, config.monitorPort].find((candidate) => line.includes(`:${candidate}:`)) ?? config.port;
    return portTaken(port);
  }
  return failure(line === '' ? `it ended with ${describeExit(exit)}` : line, exit.error);
}

function failure(why: string, cause?: unknown): DevError {
  return new DevError('DEVENV_NATS_SERVER_FAILED', `Cannot start nats-server: ${why}`, {
    hint: 'Its output is in the log of the dev services, below the service nats',
    cause,
  });
}

/** The line of the server's output that says why it ended, without process id and time. */
export function fatalLine(output: readonly string[]): string {
  const lines = output.filter((line) => line.trim() !== '');
  const line =
    lines.findLast((text) => /\[(?:FTL|ERR)\]/.test(text)) ??
    lines.findLast((text) => !/\[(?:INF|WRN|DBG)\]/.test(text));
  return withoutTime(line ?? '')
    .replace(/^\[\w+\] /, '')
    .replace(/^\S*nats-server: /, '')
    .trim();
}

/** Without `[pid] date time `: whoever keeps the lines knows both. */
function withoutTime(line: string): string {
  return line.replace(/^\[\d+\] \S+ \S+ (?=\[\w+\] )/, '');
}
