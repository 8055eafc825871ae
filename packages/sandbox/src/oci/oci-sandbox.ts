import type { ChildProcess } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { abortable } from '../abortable.ts';
import type { SandboxCgroup } from '../cgroup/cgroup.ts';
import { checkProgram } from '../bundle/closure.ts';
import { FolderWatch } from '../supervisor/folder-watch.ts';
import { readLogs } from '../logs/log-reader.ts';
import { executableOf, isAlive, signalGroup, signalProcess, untilGone } from '../supervisor/process-identity.ts';
import type { Networks } from '../network/networks.ts';
import { SandboxError } from '../sandbox-error.ts';
import type { SandboxFiles } from './sandbox-files.ts';
import type {
  ExecResult,
  ExecSpec,
  Exit,
  LogEntry,
  LogOptions,
  LogPosition,
  Sandbox,
  SandboxRecord,
  SandboxSpec,
  StopOptions,
  Usage,
} from '../sandbox.ts';
import { startFailure } from './start-failure.ts';
import { spawnSupervisor } from '../supervisor/supervisor.ts';
import { isPrivateFileName } from '../validate-spec.ts';

const DEFAULT_GRACE_MS = 10_000;
const KILL_GRACE_MS = 2000;

/** What only a sandbox that is still to be started has. */
export interface StartInput {
  spec: SandboxSpec;
  /** Text of the bundle's `config.json`. */
  config: string;
  /** Absolute path of the OCI runtime. */
  runtime: string;
  hide: string | undefined;
  mountRoot: boolean;
  owner: number;
}

export interface OciSandboxOptions {
  record: SandboxRecord;
  files: SandboxFiles;
  cgroup: SandboxCgroup;
  networks: Networks;
  /** Absent for a sandbox that was started before. */
  start?: StartInput;
  /** Called once, when this object is of no more use. */
  onReleased: () => void;
}

/** A sandbox that lives in its folder and its cgroup; this object only looks at them. */
export class OciSandbox implements Sandbox {
  readonly record: SandboxRecord;
  readonly #files: SandboxFiles;
  readonly #cgroup: SandboxCgroup;
  readonly #networks: Networks;
  readonly #onReleased: () => void;
  readonly #watch: FolderWatch;
  readonly #exited = Promise.withResolvers<Exit>();
  #toStart: StartInput | undefined;
  #starting: Promise<void> | undefined;
  #exit: Exit | undefined;
  /** There may still be files that hold its environment. */
  #secrets = true;
  #released = false;
  #removed = false;
  /** Waits for the exit; runs from the start on, and ends when the object is released. */
  #watching: Promise<void> | undefined;

  constructor({ record, files, cgroup, networks, start, onReleased }: OciSandboxOptions) {
    this.record = record;
    this.#files = files;
    this.#cgroup = cgroup;
    this.#networks = networks;
    this.#toStart = start;
    this.#onReleased = onReleased;
    this.#watch = new FolderWatch(files.folder);
    // Nobody has to wait for the exit; whoever does gets the rejection nevertheless.
    this.#exited.promise.catch(() => undefined);
    if (start === undefined) this.#watching = this.#untilExit();
  }

  get id(): string {
    return this.record.id;
  }

  get exited(): Promise<Exit> {
    return this.#exited.promise;
  }

  async start({ signal }: { signal?: AbortSignal } = {}): Promise<void> {
    const input = this.#toStart;
    if (input === undefined) {
      throw new SandboxError('SANDBOX_ALREADY_STARTED', `Cannot start the sandbox "${this.id}": it was started before`);
    }
    this.#toStart = undefined;
    this.#starting = this.#start(input, signal);
    await this.#starting;
  }

  async stop({ signal = 'SIGTERM', graceMs = DEFAULT_GRACE_MS }: StopOptions = {}): Promise<Exit> {
    if (!isSignal(signal)) {
      throw new SandboxError('SANDBOX_SPEC_INVALID', `Cannot stop the sandbox "${this.id}": no signal is "${signal}"`);
    }
    this.#assertHeld();
    // A start that fails has cleaned up; its error belongs to the caller of start().
    await this.#starting?.catch(() => undefined);
    if (this.#watching === undefined) {
      this.#toStart = undefined;
      return { outOfMemory: false };
    }
    await this.#untilProgramKnown();
    if (this.#exit === undefined && graceMs > 0 && (await this.#signal(signal))) {
      await this.#exitedWithin(graceMs);
    }
    if (this.#exit === undefined && (await this.#signal('SIGKILL'))) await this.#exitedWithin(KILL_GRACE_MS);
    // Left to itself the runtime ends in good order; what does not end then is killed with it.
    if (this.#exit === undefined) await this.#cgroup.kill();
    const exit = await this.exited;
    await this.#cgroup.remove();
    return exit;
  }

  logs(from: LogPosition = { stdout: 0, stderr: 0 }, options: LogOptions = {}): AsyncGenerator<LogEntry> {
    const source = {
      path: (stream: LogEntry['stream']) => this.#files.stream(stream),
      ended: () => this.#exit !== undefined,
      released: () => this.#released,
      changed: () => this.#watch.logs.next(),
    };
    return readLogs(source, from, options);
  }

  async usage(): Promise<Usage> {
    return this.#cgroup.usage();
  }

  async addresses(): Promise<readonly string[]> {
    return (await this.#networks.find(this.id))?.addresses ?? [];
  }

  async exec(_spec: ExecSpec): Promise<ExecResult> {
    throw new SandboxError('SANDBOX_EXEC_FAILED', `Cannot run a command in the sandbox "${this.id}": not built yet`);
  }

  async replaceFile(name: string, content: string): Promise<boolean> {
    if (!isPrivateFileName(name)) {
      const message = `Cannot write the file ${JSON.stringify(name)} for the sandbox "${this.id}": its name is not plain`;
      throw new SandboxError('SANDBOX_SPEC_INVALID', message);
    }
    this.#assertHeld();
    return this.#files.replacePrivate(name, content);
  }

  async remove(): Promise<void> {
    await this.#starting?.catch(() => undefined);
    if (this.#removed) return;
    this.#assertHeld();
    if (this.#watching !== undefined && this.#exit === undefined) {
      throw new SandboxError('SANDBOX_RUNNING', `Cannot remove the sandbox "${this.id}": it is running`, {
        hint: 'Stop it first',
      });
    }
    await this.#removeAll();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // What is being started is finished first: half a start is nothing that could be adopted.
    await this.#starting?.catch(() => undefined);
    this.#release('this process has let go of it');
    await this.#watching;
  }

  async #start(input: StartInput, signal: AbortSignal | undefined): Promise<void> {
    let supervisor: ChildProcess | undefined;
    try {
      this.#assertHeld();
      await checkProgram(input.spec);
      await Promise.all([
        this.#cgroup.create(input.spec.resources),
        writeFile(this.#files.config, input.config, { mode: 0o600 }),
      ]);
      signal?.throwIfAborted();
      supervisor = await spawnSupervisor({ ...input, id: this.id, files: this.#files, cgroup: this.#cgroup });
      supervisor.once('error', () => this.#watch.state.fire());
      supervisor.once('exit', () => this.#watch.state.fire());
      await this.#untilStarted(input, supervisor, signal);
      await this.#removeSecrets();
      this.#watching = this.#untilExit();
    } catch (error) {
      await this.#killUnstarted(supervisor);
      await this.#removeAll();
      throw error;
    }
  }

  /** Until the program runs, or has run; throws when it does not come to that. */
  async #untilStarted(input: StartInput, supervisor: ChildProcess, signal: AbortSignal | undefined): Promise<void> {
    for (;;) {
      const changed = this.#watch.state.next();
      // Asked first: what a supervisor that has ended has left is complete.
      const ended = supervisor.pid === undefined || supervisor.exitCode !== null || supervisor.signalCode !== null;
      const exit = await this.#files.exit();
      // Asked last: it is written before the exit.
      const program = await this.#files.program();
      if (exit !== undefined || ended) {
        const complaint = program === undefined ? undefined : await this.#files.executionComplaint();
        if (exit !== undefined && program !== undefined && complaint === undefined) return;
        throw await startFailure(input.spec, this.#files, { exit, complaint });
      }
      if (program === undefined) {
        await abortable(changed, signal);
      } else {
        // The runtime tells that the program has been started just before it really executes it: its first process
        // executes the same file as the runtime, its parent, until then.
        const [executed, runtime] = await Promise.all([executableOf(program.pid), executableOf(program.parent)]);
        if (executed !== undefined && executed !== runtime) return;
        // Gone already: the supervisor is about to say how it ended.
        await (executed === undefined ? abortable(changed, signal) : delay(1, undefined, { signal }));
      }
    }
  }

  /** Ends a start half way. Everything of it is in the cgroup, or else in the process group of its supervisor. */
  async #killUnstarted(supervisor: ChildProcess | undefined): Promise<void> {
    if (supervisor?.pid === undefined) return;
    const ended = Promise.withResolvers<void>();
    supervisor.once('exit', () => ended.resolve());
    if (supervisor.exitCode !== null || supervisor.signalCode !== null) return;
    const program = await this.#files.program();
    signalGroup(supervisor.pid, 'SIGKILL');
    if (program !== undefined) await signalProcess(program, 'SIGKILL');
    await ended.promise;
    // What it had started ends a moment later. Where nobody reaps zombies, the group never goes.
    const deadline = Date.now() + KILL_GRACE_MS;
    while (signalGroup(supervisor.pid, 0) && Date.now() < deadline) await delay(1);
  }

  /** Never rejects: what goes wrong is told to whoever waits for the exit. */
  async #untilExit(): Promise<void> {
    try {
      await this.#watchExit();
    } catch (error) {
      this.#exited.reject(error);
    }
  }

  async #watchExit(): Promise<void> {
    while (!this.#released) {
      const changed = this.#watch.state.next();
      // Whoever started it may have been killed before it came to that.
      if (this.#secrets && (await this.#files.program()) !== undefined) await this.#removeSecrets();
      const supervisor = await this.#files.supervisor();
      const supervised = supervisor !== undefined && (await isAlive(supervisor));
      // Asked last: a supervisor that has ended has written it before.
      const exit = await this.#files.exit();
      if (exit !== undefined || !supervised) {
        if (exit === undefined) await this.#kill();
        // It writes the exit last.
        else if (supervisor !== undefined) await untilGone(supervisor);
        await this.#removeSecrets();
        this.#settle(exit ?? { outOfMemory: false });
        return;
      }
      await changed;
    }
  }

  async #removeSecrets(): Promise<void> {
    if (!this.#secrets) return;
    await this.#files.removeSecrets(this.id);
    this.#secrets = false;
  }

  #settle(exit: Exit): void {
    this.#exit = exit;
    this.#exited.resolve(exit);
    this.#watch.logs.fire();
  }

  /** A sandbox adopted during its start has no program yet. */
  async #untilProgramKnown(): Promise<void> {
    for (;;) {
      const changed = this.#watch.state.next();
      if (this.#exit !== undefined || (await this.#files.program()) !== undefined) return;
      await Promise.race([changed, this.exited]);
    }
  }

  async #signal(signal: NodeJS.Signals): Promise<boolean> {
    const program = await this.#files.program();
    return program !== undefined && (await signalProcess(program, signal));
  }

  /** With its first process the kernel kills all others of a pid namespace. */
  async #kill(): Promise<void> {
    await this.#signal('SIGKILL');
    await this.#cgroup.kill();
  }

  async #exitedWithin(ms: number): Promise<void> {
    const timer = new AbortController();
    await Promise.race([this.exited, delay(ms, undefined, { signal: timer.signal }).catch(() => undefined)]);
    timer.abort();
  }

  async #removeAll(): Promise<void> {
    await this.#cgroup.remove();
    await this.#networks.detach(this.id);
    await this.#files.remove();
    this.#toStart = undefined;
    this.#removed = true;
    this.#release('it is removed');
  }

  #release(why: string): void {
    if (this.#released) return;
    this.#released = true;
    this.#exited.reject(new SandboxError('SANDBOX_RELEASED', `Cannot wait for the sandbox "${this.id}": ${why}`));
    this.#watch.fire();
    this.#watch[Symbol.dispose]();
    this.#onReleased();
  }

  #assertHeld(): void {
    if (!this.#released) return;
    throw new SandboxError('SANDBOX_RELEASED', `Cannot use the sandbox "${this.id}": this process has let go of it`);
  }
}

function isSignal(name: string): name is NodeJS.Signals {
  return name in constants.signals;
}
