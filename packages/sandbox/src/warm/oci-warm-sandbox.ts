import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { getSystemErrorName } from 'node:util';
import { checkProgram } from '../bundle/closure.ts';
import type { SandboxCgroup } from '../cgroup/cgroup.ts';
import { hasErrno } from '../file-errors.ts';
import type { Networks } from '../network/networks.ts';
import type { StartInput } from '../oci/start-program.ts';
import { parseComplaints, parseExit, type SandboxFiles } from '../oci/sandbox-files.ts';
import { startFailure } from '../oci/start-failure.ts';
import { SandboxError } from '../sandbox-error.ts';
import type { Exit, Invocation, InvocationResult, SandboxRecord, SandboxSpec, Usage, WarmSandbox } from '../sandbox.ts';
import { signalProcess, spareFromOutOfMemory } from '../supervisor/process-identity.ts';
import { validateEnvironment } from '../validate-spec.ts';
import { GATE_FAILED, GATE_PATH, READY } from './gate.ts';
import { gateBlock, gateErrno, TOKEN_LENGTH } from './gate-block.ts';
import { Output } from './output.ts';
import { StderrLines } from './stderr-lines.ts';
import { launchWarm, type WarmLaunch, type ProcessEnd } from './warm-process.ts';

/** What a sandbox executes. */
export type SandboxCommand = Pick<SandboxSpec, 'argv' | 'environment' | 'program'>;

/** A sandbox whose folder is written, and nothing else. */
export interface PreparedSandbox {
  record: SandboxRecord;
  files: SandboxFiles;
  cgroup: SandboxCgroup;
  /** Text of the bundle's `config.json` for a command. */
  configOf: (command: SandboxCommand) => string;
  start: Omit<StartInput, 'config'> & Pick<WarmLaunch, 'hide' | 'mountRoot'>;
}

export interface OciWarmSandboxOptions extends PreparedSandbox {
  /** File of the gate; undefined: there is none, and the sandbox is started by its invocation. */
  gate: Uint8Array | undefined;
  networks: Networks;
  /** Called when nothing of it is left. */
  onRemoved: () => void;
}

interface Running {
  /** Of the OCI runtime. */
  pid: number;
  stdin: NodeJS.WritableStream & { destroy(): void };
  stdout: Output;
  stderr: StderrLines;
}

/**
 * A sandbox with a gate in it, as a child of this process. When this process ends, however it does, a gate that waits
 * reads the end of its stdin and ends too; a program that runs goes on until it ends, or until the next process that opens
 * the state folder ends it.
 */
export class OciWarmSandbox implements WarmSandbox {
  readonly id: string;
  readonly #options: OciWarmSandboxOptions;
  readonly #exited = Promise.withResolvers<Exit>();
  #running: Running | undefined;
  #exit: Exit | undefined;
  #invoked = false;
  #removed: Promise<void> | undefined;

  private constructor(options: OciWarmSandboxOptions) {
    this.id = options.record.id;
    this.#options = options;
    // Nobody has to wait for the exit; whoever does gets the rejection nevertheless.
    this.#exited.promise.catch(() => undefined);
  }

  /** Resolves when the gate waits. A sandbox that does not get so far is removed. */
  static async open(options: OciWarmSandboxOptions): Promise<OciWarmSandbox> {
    const sandbox = new OciWarmSandbox(options);
    const { files, cgroup, gate, start } = options;
    try {
      checkProgram(start.spec);
      await files.own();
      await cgroup.create(start.spec.resources);
      if (gate !== undefined) {
        await writeGate(files.rootfs, gate);
        await sandbox.#launch({ program: GATE_PATH, argv: [], environment: {} }, 1);
        await sandbox.#untilReady();
      }
      return sandbox;
    } catch (error) {
      await sandbox[Symbol.asyncDispose]();
      throw error;
    }
  }

  get exited(): Promise<Exit> {
    return this.#exited.promise;
  }

  async usage(): Promise<Usage> {
    return this.#options.cgroup.usage();
  }

  async invoke(invocation: Invocation): Promise<InvocationResult> {
    const { signal, maxOutput, onStderr } = invocation;
    const { spec } = this.#options.start;
    if (this.#invoked) {
      const message = `Cannot run the sandbox "${this.id}": it ran before`;
      throw new SandboxError('SANDBOX_ALREADY_STARTED', message);
    }
    this.#invoked = true;
    signal?.throwIfAborted();
    const environment = { HOME: '/tmp', ...spec.environment, ...invocation.environment };
    validateEnvironment({ id: this.id, environment });
    const token = randomBytes(TOKEN_LENGTH);
    const stopped = Promise.withResolvers<never>();
    stopped.promise.catch(() => undefined);
    let stopping = false;
    const stop = (why: unknown) => {
      stopping = true;
      this.#kill().then(() => stopped.reject(why), stopped.reject);
    };
    const abort = () => stop(signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const { stdin, stdout, stderr } = await this.#begin({ ...spec, environment }, token);
      stderr.onLine = onStderr;
      stdout.limit(maxOutput, () => stop(this.#tooLarge(maxOutput)));
      stdin.end(invocation.stdin);
      const exit = await Promise.race([this.exited, stopped.promise]);
      if (stopping) await stopped.promise;
      return { exit, stdout: await this.#checked(exit, stdout.bytes(), token) };
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#removed ??= this.#remove();
    return this.#removed;
  }

  async #remove(): Promise<void> {
    const { files, cgroup, networks, onRemoved } = this.#options;
    this.#invoked = true;
    await this.#kill();
    if (this.#running === undefined) this.#settle({ outOfMemory: false });
    await this.#exited.promise;
    await cgroup.remove();
    await networks.detach(this.id);
    await files.remove();
    onRemoved();
  }

  /** Lets the program be executed: by the gate, or else by starting the sandbox. */
  async #begin(command: SandboxCommand, token: Uint8Array): Promise<Running> {
    if (this.#options.gate === undefined) return this.#launch(command, 0);
    const args = [command.program, ...command.argv];
    const block = gateBlock({ ...command, args }, token);
    if (block === undefined) throw this.#failure('its arguments and its environment are more than 2 MiB');
    if (this.#running === undefined || this.#exit !== undefined) throw this.#failure('its sandbox has ended before');
    this.#running.stdin.write(block);
    return this.#running;
  }

  /** @param skip Bytes of stdout that are not the program's. */
  async #launch(command: SandboxCommand, skip: number): Promise<Running> {
    const { files, cgroup, configOf, start } = this.#options;
    await writeFile(files.config, configOf(command), { mode: 0o600 });
    const launched = await launchWarm({ ...start, id: this.id, files, cgroup });
    if (launched === undefined) throw await startFailure(start.spec, files, { exit: undefined, complaint: undefined });
    const { pid, stdin, stdout, stderr, ended } = launched;
    // A program that does not read what it is given, or not all of it, is as good as one that does.
    stdin.on('error', () => undefined);
    const running = {
      pid,
      stdin,
      stdout: new Output(stdout, skip),
      stderr: new StderrLines(stderr, start.spec.resources.logRate),
    };
    this.#running = running;
    const closed = Promise.all([stdout, stderr].map((stream) => closedOf(stream)));
    this.#watch(running, ended, closed).then(
      (exit) => this.#settle(exit),
      (error: unknown) => this.#exited.reject(error),
    );
    return running;
  }

  async #watch(running: Running, ended: Promise<ProcessEnd>, closed: Promise<unknown>): Promise<Exit> {
    const { files, cgroup } = this.#options;
    const { code, signal } = await ended;
    running.stdin.destroy();
    running.stderr.hurry();
    // Whoever kills the runtime leaves its sandbox alive.
    if (signal !== null) await this.#killAll();
    await closed;
    running.stderr.end();
    await files.removeSecrets(this.id);
    const status = signal === null ? (code ?? 1) : 128 + constants.signals[signal];
    const exit = parseExit(`${status} ${status === 0 ? 0 : await outOfMemoryKills(cgroup)}`);
    return exit ?? { outOfMemory: false };
  }

  #settle(exit: Exit): void {
    this.#exit = exit;
    this.#exited.resolve(exit);
  }

  /** Until the gate says that it waits. */
  async #untilReady(): Promise<void> {
    const running = this.#running;
    const ended = this.exited.then(() => undefined);
    const first = await Promise.race([running?.stdout.skipped, ended]);
    if (running === undefined || first !== READY) throw await this.#startFailure(this.#exit);
    const { pids } = this.#options.start.spec.resources;
    if (pids !== undefined) this.#options.cgroup.limitPids(pids);
    // It has the program's score, and would be picked as readily.
    spareFromOutOfMemory(running.pid);
  }

  async #kill(): Promise<void> {
    if (this.#running === undefined || this.#exit !== undefined) return;
    await this.#killAll();
    await this.#exited.promise;
  }

  /** With its first process the kernel kills all others of a pid namespace. */
  async #killAll(): Promise<void> {
    const { files, cgroup } = this.#options;
    const program = await files.program();
    if (program !== undefined) await signalProcess(program, 'SIGKILL');
    await cgroup.kill();
  }

  /** What the program printed, if it came to run. */
  async #checked(exit: Exit, stdout: Uint8Array, token: Uint8Array): Promise<Uint8Array> {
    if (exit.code === undefined || exit.code === 0) return stdout;
    const errno = exit.code === GATE_FAILED ? gateErrno(stdout, token) : undefined;
    if (errno !== undefined) throw await this.#startFailure(exit, complaintOf(errno));
    if (this.#options.gate === undefined && this.#complaint() !== undefined) throw await this.#startFailure(exit);
    return stdout;
  }

  /** What crun says on stderr when it cannot execute the program. */
  #complaint(): string | undefined {
    const [complaint] = parseComplaints(this.#running?.stderr.head.toString() ?? '');
    return complaint?.startsWith('exec container process') ? complaint : undefined;
  }

  #startFailure(exit: Exit | undefined, complaint = this.#complaint()): Promise<SandboxError> {
    return startFailure(this.#options.start.spec, this.#options.files, { exit, complaint });
  }

  #failure(state: string): SandboxError {
    return new SandboxError('SANDBOX_START_FAILED', `Cannot start "${this.#options.start.spec.program}": ${state}`);
  }

  #tooLarge(maxOutput: number): SandboxError {
    const message = `Cannot take what "${this.#options.start.spec.program}" prints: it is more than ${maxOutput} bytes`;
    return new SandboxError('SANDBOX_OUTPUT_TOO_LARGE', message);
  }
}

async function writeGate(rootfs: string, gate: Uint8Array): Promise<void> {
  const folder = join(rootfs, 'run');
  await mkdir(folder, { recursive: true });
  await chmod(folder, 0o755);
  await writeFile(join(rootfs, GATE_PATH), gate);
  await chmod(join(rootfs, GATE_PATH), 0o555);
}

/** As crun puts it, where there is a hint for it. */
function complaintOf(errno: number): string {
  if (errno === constants.errno.ENOENT) return 'No such file or directory';
  if (errno === constants.errno.ENOEXEC) return 'Exec format error';
  return `the kernel says ${getSystemErrorName(-errno)}`;
}

async function outOfMemoryKills({ memoryEvents }: SandboxCgroup): Promise<number> {
  if (memoryEvents === undefined) return 0;
  try {
    return Number(/^oom_kill (\d+)$/m.exec(await readFile(memoryEvents, 'utf8'))?.[1] ?? 0);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return 0;
    throw error;
  }
}

async function closedOf(stream: NodeJS.EventEmitter): Promise<void> {
  const closed = Promise.withResolvers<void>();
  stream.once('close', () => closed.resolve());
  return closed.promise;
}
