import type { ChildProcess } from 'node:child_process';
import { chownSync, closeSync, constants, openSync, unlinkSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { constants as system } from 'node:os';
import { join } from 'node:path';
import type { Cgroup } from './cgroup.ts';
import { executeCalls, type Execution, executionRefused } from './execute-calls.ts';
import { Pipe } from './pipe.ts';
import type { Kernel } from '../kernel/run-syscalls.ts';
import { refused } from '../refused.ts';
import type { ExecAnswer, GuestExit, OutputStream } from '../../protocol/messages.ts';

/** Where programs are executed. */
export interface Place {
  kernel: Kernel;
  /** Folder for what executing needs; nobody else's. */
  folder: string;
  root: string;
  cgroup: Cgroup;
  uid: number;
  gid: number;
}

export interface Command {
  program: string;
  argv: readonly string[];
  environment: Readonly<Record<string, string>>;
  stdin?: Buffer | undefined;
}

/** Bytes of what a command prints that are told of. */
const EXEC_OUTPUT = 4096;

export type OutputPipes = Readonly<Record<OutputStream, Pipe>>;

/** The program of a guest: executed, and what comes of it. */
export class Program {
  /** Its output, paused. They end when nothing of the program is alive. */
  readonly output: Readonly<Record<OutputStream, Socket>>;
  /** Resolves when nothing of it is alive; its output may not have been read yet. */
  readonly ended: Promise<GuestExit>;
  readonly #child: ChildProcess;
  readonly #place: Place;
  readonly #environment: Readonly<Record<string, string>>;
  #execs = 0;
  #isAlive = true;

  private constructor(
    child: ChildProcess,
    { place, command, output }: { place: Place; command: Command; output: Record<OutputStream, Socket> },
  ) {
    this.#child = child;
    this.#place = place;
    this.#environment = command.environment;
    this.output = output;
    this.ended = this.#end();
  }

  /**
   * Resolves when it was executed. Throws GUEST_REFUSED; then it can be tried again.
   *
   * @param pipes For its output.
   */
  static async start(place: Place, command: Command, { stdout, stderr }: OutputPipes): Promise<Program> {
    const child = await execute(place, { command, out: stdout.writer, err: stderr.writer });
    stdout.closeWriter();
    stderr.closeWriter();
    return new Program(child, { place, command, output: { stdout: stdout.reader, stderr: stderr.reader } });
  }

  /** Sends a signal to it; nothing happens when it has ended. Throws GUEST_REFUSED for a signal that there is not. */
  signal(name: string): void {
    if (!isSignal(name)) throw refused('invalid', `Cannot send "${name}": there is no such signal`);
    if (this.#isAlive) this.#child.kill(name);
  }

  /** Resolves when nothing of it is alive. */
  async kill(): Promise<void> {
    await this.#place.cgroup.kill();
    await this.ended;
  }

  /** Runs one more command beside it, with its environment too; `signal` kills that. Throws GUEST_REFUSED. */
  async exec(asked: Command, signal: AbortSignal): Promise<ExecAnswer> {
    const command = { ...asked, environment: { ...this.#environment, ...asked.environment } };
    if (!this.#isAlive) throw refused('invalid', 'Cannot run a command: the program has ended');
    const name = `exec-${this.#execs++}`;
    const place = { ...this.#place, cgroup: this.#place.cgroup.make(name) };
    try {
      const { pipe } = Pipe.make(place.kernel, { ...place, name, streams: ['pipe'] });
      return await runCommand(place, { command, pipe, signal });
    } finally {
      await place.cgroup.remove();
    }
  }

  async #end(): Promise<GuestExit> {
    const { code, signal } = await exitOf(this.#child);
    this.#isAlive = false;
    // What it left behind would go with a container, too.
    await this.#place.cgroup.kill();
    return { code, ...(signal !== undefined && { signal }), outOfMemory: this.#place.cgroup.outOfMemory };
  }
}

async function runCommand(
  place: Place,
  { command, pipe, signal }: { command: Command; pipe: Pipe; signal: AbortSignal },
): Promise<ExecAnswer> {
  const kill = () => void place.cgroup.kill();
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    const child = await execute(place, { command, out: pipe.writer, err: pipe.writer });
    pipe.closeWriter();
    signal.addEventListener('abort', kill, { once: true });
    if (signal.aborted) kill();
    const drained = new Promise<void>((resolve) => pipe.reader.once('close', () => resolve()));
    pipe.reader.on('data', (chunk: Buffer) => {
      if (length < EXEC_OUTPUT) chunks.push(chunk.subarray(0, EXEC_OUTPUT - length));
      length += chunk.length;
    });
    pipe.reader.resume();
    const { code } = await exitOf(child);
    await place.cgroup.kill();
    await drained;
    return { code, output: Buffer.concat(chunks).toString('base64') };
  } finally {
    signal.removeEventListener('abort', kill);
    pipe.discard();
  }
}

async function execute(
  { kernel, folder, root, cgroup, uid, gid }: Place,
  { command, out, err }: { command: Command; out: number; err: number },
): Promise<ChildProcess> {
  const { program, argv, environment, stdin } = command;
  const execution: Execution = { root, cgroup, uid, gid, program, argv, environment };
  const input = stdin === undefined ? undefined : inputFile(join(folder, 'stdin'), { stdin, uid, gid });
  try {
    const { child, done } = kernel.launch(executeCalls(execution), [input ?? 'ignore', out, err]);
    await done;
    return child;
  } catch (error) {
    throw executionRefused(program, error);
  } finally {
    if (input !== undefined) closeSync(input);
  }
}

/** A file without a name. Other than a pipe it waits for nobody, and it can be opened again by the name `/dev/stdin`. */
function inputFile(file: string, { stdin, uid, gid }: { stdin: Buffer; uid: number; gid: number }): number {
  writeFileSync(file, stdin, { mode: 0o400, flag: 'wx' });
  try {
    chownSync(file, uid, gid);
    return openSync(file, constants.O_RDONLY);
  } finally {
    unlinkSync(file);
  }
}

function exitOf(child: ChildProcess): Promise<{ code: number; signal?: string }> {
  const exit = (code: number | null, signal: NodeJS.Signals | null) =>
    signal === null ? { code: code ?? 0 } : { code: 128 + system.signals[signal], signal };
  if (child.exitCode !== null || child.signalCode !== null)
    return Promise.resolve(exit(child.exitCode, child.signalCode));
  return new Promise((resolve) => child.once('exit', (code, signal) => resolve(exit(code, signal))));
}

function isSignal(name: string): name is NodeJS.Signals {
  return Object.hasOwn(system.signals, name);
}
