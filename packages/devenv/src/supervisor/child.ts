import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { Lines } from './lines.ts';

/** How long the rest of what a program has printed may take to arrive after its end, when others hold its output open. */
const OUTPUT_GRACE_MS = 250;

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Why it could not be started at all. */
  error?: Error;
}

export interface ChildOptions {
  /** Program and arguments. */
  command: readonly string[];
  env: NodeJS.ProcessEnv;
  /** How long it may take to end after SIGTERM, in milliseconds. */
  graceMs: number;
  /** Told each line without its end; too long ones are cut. */
  onLine: (source: 'stdout' | 'stderr', line: string) => void;
}

/**
 * A process in a group of its own: Ctrl-C at a terminal must not end it before those that still need it. Its standard input is a pipe that
 * closes when this process dies, however it dies.
 */
export class Child implements AsyncDisposable {
  readonly pid: number;
  /** Resolves when it is gone and its output was read. */
  readonly exited: Promise<Exit>;
  readonly #child: ChildProcess;
  readonly #graceMs: number;
  #stopping: Promise<void> | undefined;

  constructor({ command, env, graceMs, onLine }: ChildOptions) {
    const [program = '', ...args] = command;
    this.#child = spawn(program, args, { detached: true, env, stdio: ['pipe', 'pipe', 'pipe'] });
    this.#graceMs = graceMs;
    this.pid = this.#child.pid ?? -1;
    // A child that has gone does not read.
    this.#child.stdin?.on('error', () => undefined);
    for (const source of ['stdout', 'stderr'] as const) {
      const lines = new Lines((line) => onLine(source, line));
      this.#child[source]?.on('data', (chunk: Buffer) => lines.push(chunk)).once('close', () => lines.end());
    }
    this.exited = observeExit(this.#child);
  }

  /** Whether it has ended or could not be started. */
  get isGone(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined;
  }

  /** SIGTERM, and SIGKILL to its whole group when that does not end it in time. Resolves when it is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping ??= this.#stop();
    await this.#stopping;
  }

  async #stop(): Promise<void> {
    if (this.isGone) {
      await this.exited;
      return;
    }
    // To itself only: a command that passes signals on would make two of it.
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => killGroup(this.pid), this.#graceMs);
    await this.exited;
    clearTimeout(timer);
  }
}

/** `SIGKILL`, or `exit code 1`. */
export function describeExit({ code, signal, error }: Exit): string {
  return error?.message ?? signal ?? `exit code ${code}`;
}

async function observeExit(child: ChildProcess): Promise<Exit> {
  const closed = once(child, 'close').catch(() => undefined);
  try {
    const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
    await Promise.race([closed, delay(OUTPUT_GRACE_MS, undefined, { ref: false })]);
    return { code, signal };
  } catch (error) {
    return { code: null, signal: null, error: error as Error };
  } finally {
    for (const stream of child.stdio) stream?.destroy();
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
