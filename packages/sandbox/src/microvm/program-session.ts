import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { type GuestConnection, GuestError, type GuestExit, type Output } from '@nex-nix/guest';
import type { SandboxCgroup } from '../cgroup/cgroup.ts';
import { hasErrno } from '../file-errors.ts';
import type { Exit, LogPosition } from '../sandbox.ts';
import { SandboxError } from '../sandbox-error.ts';
import type { GuestMachine } from './guest-machine.ts';
import { consoleText, endedText, type GreetOptions } from './handshake.ts';
import type { MicrovmEvent } from './microvm-event.ts';
import type { MicrovmFiles } from './microvm-files.ts';
import type { OutputLog } from './output-log.ts';
import { PacedAcks } from './paced-acks.ts';

const KILLED: Exit = { code: 137, signal: 'SIGKILL', outOfMemory: false };

/** Pause before a write is tried again for which there was no room. */
const NO_ROOM_MS = 1000;

/** Time for a machine whose connection broke to show that it has ended. */
const END_MS = 500;

export interface ProgramSessionOptions {
  id: string;
  machine: GuestMachine;
  files: MicrovmFiles;
  log: OutputLog;
  /** Bytes a second of each output stream. */
  logRate: number | undefined;
  /** How the agent is greeted again whose connection broke. */
  greeting: (have: LogPosition) => GreetOptions;
  /** Called when there is more output on disk. */
  onGrown: () => void;
  onEvent: (event: MicrovmEvent) => void;
}

/**
 * Follows a program in a machine to its end: its output to disk, and there acknowledged; its connection made again when it
 * breaks; its exit, or what became of its machine.
 */
export class ProgramSession {
  /** How it ended: on disk, the logs complete, its machine gone. Undefined when it was let go of. */
  readonly ended: Promise<Exit | undefined>;
  readonly #options: ProgramSessionOptions;
  readonly #letGo = new AbortController();
  /** Somebody has ended the machine on purpose. */
  #killed = false;

  constructor(options: ProgramSessionOptions) {
    this.#options = options;
    this.ended = this.#run();
    this.ended.catch(() => undefined);
  }

  get machine(): GuestMachine {
    return this.#options.machine;
  }

  get connection(): GuestConnection {
    return this.machine.connection;
  }

  /** Kills the machine, as one that does not answer; the program is taken for killed. */
  async killMachine(): Promise<void> {
    this.#killed = true;
    await this.machine.vm.kill();
  }

  /** Lets go of the machine, and leaves it running. */
  async release(): Promise<void> {
    this.#letGo.abort(new Error('The session is released'));
    await this.machine[Symbol.asyncDispose]();
    await this.ended;
  }

  async #run(): Promise<Exit | undefined> {
    const { files, log, machine } = this.#options;
    try {
      const exit = await this.#untilExit();
      if (exit === undefined) return undefined;
      // Before its machine goes, whose agent could say it again.
      files.keepExit(exit);
      await machine.end();
      return exit;
    } finally {
      await log[Symbol.asyncDispose]();
    }
  }

  async #untilExit(): Promise<Exit | undefined> {
    const { log, machine, greeting } = this.#options;
    for (;;) {
      const { connection } = machine;
      try {
        await this.#copy(connection);
        return exitOf(await connection.exited);
      } catch (error) {
        if (this.#letGo.signal.aborted) return undefined;
        if (!(error instanceof GuestError)) throw error;
        if (error.code !== 'GUEST_DISCONNECTED') return this.#lost(error);
      }
      try {
        await machine.reconnect(greeting(log.positions));
      } catch (error) {
        if (this.#letGo.signal.aborted) return undefined;
        return this.#lost(error);
      }
    }
  }

  /** Until the program has ended; throws when the connection does before. */
  async #copy(connection: GuestConnection): Promise<void> {
    const { log, logRate, onGrown } = this.#options;
    using acks = new PacedAcks((positions) => connection.ack(positions), { from: log.positions, rate: logRate });
    for await (const output of connection.output()) {
      await this.#write(output);
      acks.written(output.stream, log.positions[output.stream]);
      onGrown();
    }
  }

  /** Where there is no room the program waits until there is. */
  async #write({ stream, position, bytes }: Output): Promise<void> {
    for (;;) {
      try {
        await this.#options.log.write(stream, position, bytes);
        return;
      } catch (error) {
        if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
      }
      await delay(NO_ROOM_MS, undefined, { signal: this.#letGo.signal }).catch(() => undefined);
      this.#letGo.signal.throwIfAborted();
    }
  }

  /** What is known of a program whose machine, or the connection to it, was lost. */
  async #lost(error: unknown): Promise<Exit> {
    const { id, machine, onEvent } = this.#options;
    if (this.#killed) return KILLED;
    const reason = await endOf(machine, error);
    const outOfMemory = outOfMemoryKills(machine.cgroup) > 0;
    const message = `Cannot go on with the sandbox "${id}": ${reason}; ${await consoleText(machine.vm)}`;
    onEvent({ type: 'failed', what: 'running a machine', error: new SandboxError('SANDBOX_VMM_FAILED', message) });
    return outOfMemory ? { ...KILLED, outOfMemory } : { outOfMemory, reason };
  }
}

/** What became of a machine whose connection ended so: it ends a moment later, or there is something wrong with its guest. */
export async function endOf({ vm }: GuestMachine, error: unknown): Promise<string> {
  const late = delay(END_MS, undefined, { ref: false });
  const end = await Promise.race([vm.exited, late]);
  return end === undefined ? guestFault(error) : endedText(end.reason, end.detail);
}

/** What is wrong with a guest whose machine runs. */
function guestFault(error: unknown): string {
  if (!(error instanceof GuestError)) return 'its guest did not answer any more';
  return error.code === 'GUEST_PROTOCOL' ? `its guest broke the protocol: ${error.message}` : 'its guest hung';
}

export function exitOf({ code, signal, outOfMemory }: GuestExit): Exit {
  return { code, ...(signal === undefined ? {} : { signal }), outOfMemory: outOfMemory && code !== 0 };
}

/** What the kernel of this machine killed of a VMM for want of memory. */
function outOfMemoryKills({ memoryEvents }: SandboxCgroup): number {
  if (memoryEvents === undefined) return 0;
  try {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync(memoryEvents, 'utf8'))?.[1] ?? 0);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENODEV')) return 0;
    throw error;
  }
}
