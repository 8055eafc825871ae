import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DevError } from './dev-error.ts';
import { portTaken } from './ports.ts';
import { formatServerConfig, type ServerConfig, serverPaths } from './server-config.ts';
import { readIfPresent, writePrivateFile } from './write-file.ts';

/** JetStream reads its streams before the server listens, which takes long when there is much in them. */
const READY_TIMEOUT_MS = 60_000;
const POLL_MS = 10;
const STOP_GRACE_MS = 5000;

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Why it could not be started at all. */
  error?: Error;
}

export interface NatsServerOptions {
  binary: string;
  config: ServerConfig;
  signal?: AbortSignal | undefined;
}

/** One run of nats-server that listens. Its output is in `nats-server.log` of its folder. */
export class NatsServer implements AsyncDisposable {
  readonly pid: number;
  readonly url: string;
  readonly monitorUrl: string;
  readonly exited: Promise<Exit>;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, exited: Promise<Exit>, ports: Ports) {
    this.#child = child;
    this.pid = child.pid ?? -1;
    this.exited = exited;
    this.url = ports.nats;
    this.monitorUrl = ports.monitoring;
  }

  /** Starts nats-server and waits until it listens. When it ends first, the error says why; nothing is left running then. */
  static async start({ binary, config, signal }: NatsServerOptions): Promise<NatsServer> {
    signal?.throwIfAborted();
    const paths = serverPaths(config.folder);
    await rm(paths.ports, { recursive: true, force: true });
    await mkdir(paths.ports, { recursive: true, mode: 0o700 });
    await writePrivateFile(paths.config, formatServerConfig(config));
    await using log = await open(paths.log, 'a', 0o600);
    const logStart = (await log.stat()).size;
    // Its own process group: Ctrl-C at a terminal must not end the server before those that still need it to stop in good order.
    const child = spawn(binary, ['-c', paths.config], { detached: true, stdio: ['ignore', log.fd, log.fd] });
    const exited = observeExit(child);
    try {
      const ports = await waitForPorts(paths.ports, child, signal);
      if (ports !== undefined) return new NatsServer(child, exited, ports);
      const output = (await readFile(paths.log)).subarray(logStart).toString();
      throw await startFailure({ config, exit: await exited, output });
    } catch (error) {
      await stop(child, exited);
      throw error;
    }
  }

  /** SIGTERM, and SIGKILL when that does not end it in time. Resolves when it is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    await stop(this.#child, this.exited);
  }
}

interface Ports {
  nats: string;
  monitoring: string;
}

async function observeExit(child: ChildProcess): Promise<Exit> {
  try {
    const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
    return { code, signal };
  } catch (error) {
    return { code: null, signal: null, error: error as Error };
  }
}

/** The server's ports, or undefined when it ended. It writes their file when all of them are open, but not in one step. */
async function waitForPorts(
  folder: string,
  child: ChildProcess,
  signal: AbortSignal | undefined,
): Promise<Ports | undefined> {
  const deadline = performance.now() + READY_TIMEOUT_MS;
  while (child.exitCode === null && child.signalCode === null && child.pid !== undefined) {
    const name = (await readdir(folder)).find((file) => file.endsWith(`_${child.pid}.ports`));
    const ports = name === undefined ? undefined : parsePorts(await readIfPresent(join(folder, name)));
    if (ports !== undefined) return ports;
    if (performance.now() > deadline) {
      throw new DevError(
        'DEVENV_NATS_SERVER_FAILED',
        `Cannot start nats-server: it is not ready after ${READY_TIMEOUT_MS / 1000} s`,
      );
    }
    await delay(POLL_MS, undefined, { signal });
  }
  return undefined;
}

function parsePorts(text: string | undefined): Ports | undefined {
  try {
    const json = JSON.parse(text ?? '') as { nats?: string[]; monitoring?: string[] };
    const [nats, monitoring] = [json.nats?.[0], json.monitoring?.[0]];
    return nats === undefined || monitoring === undefined ? undefined : { nats, monitoring };
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

async function startFailure(run: { config: ServerConfig; exit: Exit; output: string }): Promise<DevError> {
  const { config, exit, output } = run;
  const line = fatalLine(output);
  if (/address already in use/i.test(line)) {
    const port = [config.port, config.monitorPort].find((candidate) => line.includes(`:${candidate}:`)) ?? config.port;
    return portTaken(port);
  }
  const how = exit.error?.message ?? `it ended with ${exit.signal ?? `exit code ${exit.code}`}`;
  const why = line === '' ? how : line;
  return new DevError('DEVENV_NATS_SERVER_FAILED', `Cannot start nats-server: ${why}`, {
    hint: `Its output is in ${serverPaths(config.folder).log}`,
    cause: exit.error,
  });
}

/** The line of the server's output that says why it ended, without process id and time. */
export function fatalLine(output: string): string {
  const lines = output.split('\n').filter((line) => line.trim() !== '');
  const line =
    lines.findLast((text) => /\[(?:FTL|ERR)\]/.test(text)) ??
    lines.findLast((text) => !/\[(?:INF|WRN|DBG)\]/.test(text));
  return (line ?? '')
    .replace(/^\[\d+\] \S+ \S+ \[\w+\] /, '')
    .replace(/^\S*nats-server: /, '')
    .trim();
}

async function stop(child: ChildProcess, exited: Promise<unknown>): Promise<void> {
  if (child.pid === undefined) return;
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_GRACE_MS);
  await exited;
  clearTimeout(timer);
}

/**
 * Ends a nats-server that runs on `folder` although its dev services are gone (they were killed). Returns its process id.
 * The caller must hold the folder's lock: then whatever still runs there belongs to nobody.
 */
export async function endOrphan(
  folder: string,
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<number | undefined> {
  const { pid: pidFile, config } = serverPaths(folder);
  const pid = Number(await readIfPresent(pidFile));
  // The id may be somebody else's by now: only a process that was given our configuration is ours.
  const isOurs = async () => (await readIfPresent(`/proc/${pid}/cmdline`))?.split('\0').includes(config) === true;
  if (!Number.isInteger(pid) || pid <= 0 || !(await isOurs())) return undefined;
  kill(pid, 'SIGTERM');
  const killAt = performance.now() + STOP_GRACE_MS;
  while (await isOurs()) {
    if (performance.now() > killAt) kill(pid, 'SIGKILL');
    await delay(POLL_MS, undefined, { signal });
  }
  return pid;
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
