import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { GuestError } from '@nex-nix/guest';
import { readLogs } from '../logs/log-reader.ts';
import { Pulse } from '../pulse.ts';
import { SandboxError } from '../sandbox-error.ts';
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
import { isPrivateFileName } from '../validate-spec.ts';
import { execInGuest } from './exec-in-guest.ts';
import type { GuestMachine } from './guest-machine.ts';
import type { MicrovmFiles } from './microvm-files.ts';
import { programMemory } from './microvm-options.ts';
import { OutputLog } from './output-log.ts';
import { prepareMachine } from './prepare-machine.ts';
import { ProgramSession } from './program-session.ts';
import { executeInGuest, startFailure } from './start-in-guest.ts';
import type { Workshop } from './workshop.ts';

const DEFAULT_GRACE_MS = 10_000;

/** Time for a guest to do what needs no more than its kernel. */
const KILL_MS = 3000;
const ANSWER_MS = 10_000;

/** A program that runs. */
export interface RunningProgram {
  machine: GuestMachine;
  log: OutputLog;
  hold: Disposable | undefined;
  logRate: number | undefined;
}

export interface MicrovmSandboxOptions {
  record: SandboxRecord;
  files: MicrovmFiles;
  workshop: Workshop;
  logBytes: number;
  /** Present for one that is still to be started. */
  spec?: SandboxSpec;
  /** Present for one that was started before, and runs. */
  running?: RunningProgram;
  /** Present for one that has ended. */
  exit?: Exit;
  /** Called once, when this object is of no more use. */
  onReleased: () => void;
}

/** A sandbox that is a virtual machine of its own. */
export class MicrovmSandbox implements Sandbox {
  readonly record: SandboxRecord;
  readonly #files: MicrovmFiles;
  readonly #workshop: Workshop;
  readonly #logBytes: number;
  readonly #onReleased: () => void;
  readonly #grown = new Pulse();
  readonly #exited = Promise.withResolvers<Exit>();
  /** Ends the commands that run in it when this object lets go of it. */
  readonly #letGo = new AbortController();
  /** Aborted when it has ended. */
  readonly #ended = new AbortController();
  #toStart: SandboxSpec | undefined;
  #starting: Promise<void> | undefined;
  #session: ProgramSession | undefined;
  #hold: Disposable | undefined;
  #exit: Exit | undefined;
  #released = false;
  #removed = false;

  constructor({ record, files, workshop, logBytes, spec, running, exit, onReleased }: MicrovmSandboxOptions) {
    this.record = record;
    this.#files = files;
    this.#workshop = workshop;
    this.#logBytes = logBytes;
    this.#onReleased = onReleased;
    this.#toStart = spec;
    // Nobody has to wait for the exit; whoever does gets the rejection nevertheless.
    this.#exited.promise.catch(() => undefined);
    if (running !== undefined) this.#follow(running);
    if (exit !== undefined) this.#settle(exit);
  }

  get id(): string {
    return this.record.id;
  }

  get exited(): Promise<Exit> {
    return this.#exited.promise;
  }

  async start({ signal }: { signal?: AbortSignal } = {}): Promise<void> {
    const spec = this.#toStart;
    if (spec === undefined) {
      throw new SandboxError('SANDBOX_ALREADY_STARTED', `Cannot start the sandbox "${this.id}": it was started before`);
    }
    this.#toStart = undefined;
    this.#starting = this.#start(spec, signal);
    await this.#starting;
  }

  async stop({ signal = 'SIGTERM', graceMs = DEFAULT_GRACE_MS }: StopOptions = {}): Promise<Exit> {
    if (!(signal in constants.signals)) {
      throw new SandboxError('SANDBOX_SPEC_INVALID', `Cannot stop the sandbox "${this.id}": no signal is "${signal}"`);
    }
    this.#assertHeld();
    // A start that fails has cleaned up; its error belongs to the caller of start().
    await this.#starting?.catch(() => undefined);
    const session = this.#session;
    if (this.#exit !== undefined) return this.#exit;
    if (session === undefined) {
      this.#toStart = undefined;
      return { outOfMemory: false };
    }
    if (graceMs > 0 && (await this.#asked(session, { type: 'signal', signal }))) await this.#endedWithin(graceMs);
    if (this.#exit === undefined && (await this.#asked(session, { type: 'kill' }))) await this.#endedWithin(KILL_MS);
    if (this.#exit === undefined) await session.killMachine();
    return this.exited;
  }

  logs(from: LogPosition = { stdout: 0, stderr: 0 }, options: LogOptions = {}): AsyncGenerator<LogEntry> {
    const source = {
      folder: this.#files.folder,
      ended: () => this.#exit !== undefined,
      released: () => this.#released,
      changed: () => this.#grown.next(),
    };
    return readLogs(source, from, options);
  }

  async usage(): Promise<Usage> {
    const session = this.#session;
    if (session === undefined || this.#exit !== undefined) return {};
    const { machine } = session;
    const [machineMemory, network, guest] = await Promise.all([
      machine.vm.memory(),
      this.#workshop.networks.usage(machine.id),
      session.connection.request({ type: 'usage' }, { timeoutMs: ANSWER_MS }).catch(unlessGuestError),
    ]);
    const { network: _, ...program } = guest ?? {};
    return { ...program, ...(network === undefined ? {} : { network }), machineMemory };
  }

  async addresses(): Promise<readonly string[]> {
    const session = this.#session;
    return session === undefined ? [] : this.#workshop.networks.addresses(session.machine.id);
  }

  async exec(spec: ExecSpec): Promise<ExecResult> {
    this.#assertHeld();
    const signals = [this.#letGo.signal, ...(spec.signal === undefined ? [] : [spec.signal])];
    const running = this.#exit === undefined ? this.#session : undefined;
    return execInGuest(
      { id: this.id, connection: running?.connection, ended: this.#ended.signal },
      { ...spec, signal: AbortSignal.any(signals) },
    );
  }

  async replaceFile(name: string, content: string): Promise<boolean> {
    if (!isPrivateFileName(name)) {
      const message = `Cannot write the file ${JSON.stringify(name)} for the sandbox "${this.id}": its name is not plain`;
      throw new SandboxError('SANDBOX_SPEC_INVALID', message);
    }
    this.#assertHeld();
    const session = this.#session;
    if (session === undefined || this.#exit !== undefined) return false;
    const request = { type: 'replace', name, content } as const;
    return (await session.connection.request(request, { timeoutMs: ANSWER_MS })).replaced;
  }

  async remove(): Promise<void> {
    await this.#starting?.catch(() => undefined);
    if (this.#removed) return;
    this.#assertHeld();
    if (this.#session !== undefined && this.#exit === undefined) {
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
    await this.#session?.release();
    this.#hold?.[Symbol.dispose]();
  }

  async #start(spec: SandboxSpec, signal: AbortSignal | undefined): Promise<void> {
    try {
      this.#assertHeld();
      const { machine, hold } = await prepareMachine(this.#workshop, { spec, files: this.#files }, signal);
      const log = await OutputLog.open(this.#files.folder, this.#logBytes);
      try {
        this.#files.markStarted();
        await executeInGuest(machine, spec, { memory: programMemory(spec, this.#workshop.pool.shape), signal });
        const { cpus, logRate } = spec.resources;
        if (cpus !== undefined) await machine.limitCpus(cpus);
        this.#follow({ machine, log, hold, logRate });
      } catch (error) {
        const failure = signal?.aborted ? error : await startFailure(error, spec, machine);
        hold?.[Symbol.dispose]();
        await log[Symbol.asyncDispose]();
        await machine.destroy();
        throw failure;
      }
    } catch (error) {
      await this.#removeAll();
      throw error;
    } finally {
      this.#workshop.pool.fill();
    }
  }

  #follow({ machine, log, hold, logRate }: RunningProgram): void {
    const { machines, onEvent } = this.#workshop;
    this.#hold = hold;
    const session = new ProgramSession({
      id: this.id,
      machine,
      files: this.#files,
      log,
      logRate,
      greeting: (have) => machines.greeting(`the sandbox "${this.id}" again`, have),
      onGrown: () => this.#grown.fire(),
      onEvent,
    });
    this.#session = session;
    void this.#settleWith(session);
  }

  /** Never rejects: what goes wrong is told to whoever waits for the exit. */
  async #settleWith(session: ProgramSession): Promise<void> {
    try {
      const exit = await session.ended;
      if (exit !== undefined) this.#settle(exit);
    } catch (error) {
      this.#exited.reject(error);
    }
  }

  #settle(exit: Exit): void {
    this.#exit = exit;
    this.#hold?.[Symbol.dispose]();
    this.#hold = undefined;
    this.#exited.resolve(exit);
    this.#ended.abort();
    this.#grown.fire();
  }

  /** Whether the guest has done what it was asked. */
  async #asked(session: ProgramSession, request: { type: 'signal'; signal: string } | { type: 'kill' }) {
    try {
      await session.connection.request(request, { timeoutMs: KILL_MS, signal: this.#ended.signal });
      return true;
    } catch (error) {
      if (!this.#ended.signal.aborted && !(error instanceof GuestError)) throw error;
      // Refused, as when it has ended just now, is an answer, too.
      return error instanceof GuestError && error.code === 'GUEST_REFUSED';
    }
  }

  async #endedWithin(ms: number): Promise<void> {
    if (this.#ended.signal.aborted) return;
    await delay(ms, undefined, { signal: this.#ended.signal }).catch(() => undefined);
  }

  async #removeAll(): Promise<void> {
    const vm = (await this.#files.machine())?.vm;
    if (vm !== undefined) await this.#workshop.machines.remove(vm.id);
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
    this.#grown.fire();
    this.#onReleased();
  }

  #assertHeld(): void {
    if (!this.#released) return;
    throw new SandboxError('SANDBOX_RELEASED', `Cannot use the sandbox "${this.id}": this process has let go of it`);
  }
}

function unlessGuestError(error: unknown): undefined {
  if (!(error instanceof GuestError)) throw error;
}
