import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { SandboxCgroup } from '../cgroup/cgroup.ts';
import { FolderWatch } from '../supervisor/folder-watch.ts';
import { readLogs } from '../logs/log-reader.ts';
import { identify, isAlive, signalProcess, spareFromOutOfMemory, untilGone } from '../supervisor/process-identity.ts';
import { endProgram } from './end-program.ts';
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
  StopOptions,
  Usage,
} from '../sandbox.ts';
import { type ExecTarget, execIn } from './oci-exec.ts';
import { type StartInput, startProgram } from './start-program.ts';
import type { SpareSupervisors } from '../supervisor/spare-supervisors.ts';
import { isPrivateFileName } from '../validate-spec.ts';

const DEFAULT_GRACE_MS = 10_000;
const KILL_GRACE_MS = 2000;

export interface OciSandboxOptions {
  record: SandboxRecord;
  files: SandboxFiles;
  cgroup: SandboxCgroup;
  networks: Networks;
  spares: SpareSupervisors;
  /** Absent for a sandbox that was started before. */
  start?: StartInput;
  /** What running a command in it takes. */
  exec: Pick<ExecTarget, 'findRuntime' | 'hide'>;
  /** Called once, when this object is of no more use. */
  onReleased: () => void;
}

/** A sandbox that lives in its folder and its cgroup; this object only looks at them. */
export class OciSandbox implements Sandbox {
  readonly record: SandboxRecord;
  readonly #files: SandboxFiles;
  readonly #cgroup: SandboxCgroup;
  readonly #networks: Networks;
  readonly #spares: SpareSupervisors;
  readonly #onReleased: () => void;
  readonly #watch: FolderWatch;
  readonly #execTarget: ExecTarget;
  /** Ends the commands that run in it when this object lets go of it. */
  readonly #letGo = new AbortController();
  readonly #exited = Promise.withResolvers<Exit>();
  #toStart: StartInput | undefined;
  #starting: Promise<void> | undefined;
  #exit: Exit | undefined;
  /** Aborted when it has ended. */
  readonly #ended = new AbortController();
  /** What there is to do once its program runs is still to be done. */
  #unsettled = true;
  #released = false;
  #removed = false;
  /** Waits for the exit; runs from the start on, and ends when the object is released. */
  #watching: Promise<void> | undefined;

  constructor({ record, files, cgroup, networks, spares, start, exec, onReleased }: OciSandboxOptions) {
    this.record = record;
    this.#files = files;
    this.#cgroup = cgroup;
    this.#networks = networks;
    this.#spares = spares;
    this.#toStart = start;
    this.#execTarget = { id: record.id, files, cgroup, environment: start?.spec.environment, ...exec };
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
    const program = await this.#files.program();
    if (this.#exit === undefined && graceMs > 0 && program !== undefined) {
      await endProgram(program, { cgroup: this.#cgroup, signal, graceMs, ended: this.#ended.signal });
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
      folder: this.#files.folder,
      ended: () => this.#exit !== undefined,
      released: () => this.#released,
      changed: () => this.#watch.logs.next(),
    };
    return readLogs(source, from, options);
  }

  async usage(): Promise<Usage> {
    const network = await this.#networks.usage(this.id, await this.#files.program());
    return { ...this.#cgroup.usage(), ...(network === undefined ? {} : { network }) };
  }

  async addresses(): Promise<readonly string[]> {
    return this.#networks.addresses(this.id, await this.#files.program());
  }

  async exec(spec: ExecSpec): Promise<ExecResult> {
    this.#assertHeld();
    const signals = [this.#letGo.signal, ...(spec.signal === undefined ? [] : [spec.signal])];
    return execIn(this.#execTarget, { ...spec, signal: AbortSignal.any(signals) });
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
    try {
      this.#assertHeld();
      const target = { files: this.#files, cgroup: this.#cgroup, watch: this.#watch, spares: this.#spares };
      await startProgram(target, input, signal);
      this.#watching = this.#untilExit();
    } catch (error) {
      await this.#removeAll();
      throw error;
    }
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
      // Not part of the start, which others wait for; and whoever started it may have been killed before it came to that.
      if (this.#unsettled && (await this.#files.program()) !== undefined) await this.#settleIn();
      const supervisor = await this.#files.supervisor();
      const supervised = supervisor !== undefined && (await isAlive(supervisor));
      // Asked last: a supervisor that has ended has written it before.
      const exit = await this.#files.exit();
      if (exit !== undefined || !supervised) {
        if (exit === undefined) await this.#kill();
        // It writes the exit last.
        else if (supervisor !== undefined) await untilGone(supervisor);
        await this.#settleIn();
        this.#settle(exit ?? { outOfMemory: false });
        return;
      }
      await changed;
    }
  }

  /**
   * What can be done only when the program runs, by whoever sees it run first: its exact limit of processes, the OCI
   * runtime's safety from the out-of-memory killer, which it would pick as readily as the program, and last the removal
   * of what is not to be on disk for longer than the start takes.
   */
  async #settleIn(): Promise<void> {
    if (!this.#unsettled) return;
    const program = await this.#files.program();
    if (program !== undefined) {
      const pids = await this.#files.pidsLimit();
      if (pids !== undefined) this.#cgroup.limitPids(pids);
      const supervisor = await this.#files.supervisor();
      // When the runtime has ended, its place is taken by the machine's first process.
      if (identify(program.parent)?.parent === supervisor?.pid) spareFromOutOfMemory(program.parent);
    }
    await this.#files.removeSecrets(this.id);
    this.#unsettled = false;
  }

  #settle(exit: Exit): void {
    this.#exit = exit;
    this.#exited.resolve(exit);
    this.#ended.abort();
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
    const released = new SandboxError('SANDBOX_RELEASED', `Cannot wait for the sandbox "${this.id}": ${why}`);
    this.#exited.reject(released);
    this.#letGo.abort(released);
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
