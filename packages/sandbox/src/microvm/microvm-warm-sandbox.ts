import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { type GuestConnection, GuestError } from '@nex-nix/guest';
import { SandboxError } from '../sandbox-error.ts';
import type { Exit, Invocation, InvocationResult, SandboxSpec, Usage, WarmSandbox } from '../sandbox.ts';
import { validateEnvironment } from '../validate-spec.ts';
import { Output } from '../warm/output.ts';
import { StderrLines } from '../warm/stderr-lines.ts';
import type { MicrovmFiles } from './microvm-files.ts';
import { programMemory } from './microvm-options.ts';
import { type PreparedMachine, prepareMachine } from './prepare-machine.ts';
import { endOf, exitOf } from './program-session.ts';
import { executeInGuest, startFailure } from './start-in-guest.ts';
import type { Workshop } from './workshop.ts';

export interface MicrovmWarmSandboxOptions {
  spec: SandboxSpec;
  files: MicrovmFiles;
  workshop: Workshop;
  /** Called when nothing of it is left. */
  onRemoved: () => void;
}

/** A machine that is prepared for a program, which `invoke()` has executed. It ends with this process. */
export class MicrovmWarmSandbox implements WarmSandbox {
  readonly id: string;
  readonly #options: MicrovmWarmSandboxOptions;
  readonly #prepared: PreparedMachine;
  readonly #exited = Promise.withResolvers<Exit>();
  #invoked = false;
  #ended = false;
  #removed: Promise<void> | undefined;

  private constructor(options: MicrovmWarmSandboxOptions, prepared: PreparedMachine) {
    this.id = options.spec.id;
    this.#options = options;
    this.#prepared = prepared;
    void this.#watch();
  }

  /** Resolves when its machine is ready. A sandbox that does not get so far is removed. */
  static async open(options: MicrovmWarmSandboxOptions): Promise<MicrovmWarmSandbox> {
    const { files, workshop } = options;
    try {
      await files.own();
      return new MicrovmWarmSandbox(options, await prepareMachine(workshop, options, undefined));
    } catch (error) {
      await files.remove();
      options.onRemoved();
      throw error;
    } finally {
      workshop.pool.fill();
    }
  }

  get exited(): Promise<Exit> {
    return this.#exited.promise;
  }

  async usage(): Promise<Usage> {
    if (this.#ended) return {};
    const { machine } = this.#prepared;
    return { machineMemory: await machine.vm.memory() };
  }

  async invoke(invocation: Invocation): Promise<InvocationResult> {
    const { signal, maxOutput } = invocation;
    if (this.#invoked) {
      const message = `Cannot run the sandbox "${this.id}": it ran before`;
      throw new SandboxError('SANDBOX_ALREADY_STARTED', message);
    }
    this.#invoked = true;
    signal?.throwIfAborted();
    const environment = { HOME: '/tmp', ...this.#options.spec.environment, ...invocation.environment };
    validateEnvironment({ id: this.id, environment });
    const { machine } = this.#prepared;
    const stopped = new AbortController();
    const stop = (why: unknown) => stopped.abort(why);
    const abort = () => stop(signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    // Whatever is under way ends with the machine.
    stopped.signal.addEventListener('abort', () => void machine.vm.kill(), { once: true });
    try {
      const [exit, stdout] = await this.#run({ ...this.#options.spec, environment }, invocation, () =>
        stop(this.#tooLarge(maxOutput)),
      );
      stopped.signal.throwIfAborted();
      this.#settle(exit);
      return { exit, stdout };
    } catch (error) {
      stopped.signal.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
      await machine.end();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#removed ??= this.#remove();
    return this.#removed;
  }

  async #run(
    spec: SandboxSpec,
    { stdin, onStderr, maxOutput }: Invocation,
    onTooMuch: () => void,
  ): Promise<[Exit, Uint8Array]> {
    const { machine } = this.#prepared;
    const streams = { stdout: new PassThrough(), stderr: new PassThrough() };
    const stdout = new Output(streams.stdout, 0);
    const stderr = new StderrLines(streams.stderr, spec.resources.logRate);
    stderr.onLine = onStderr;
    stdout.limit(maxOutput, onTooMuch);
    try {
      await executeInGuest(machine, spec, { memory: programMemory(spec, this.#options.workshop.pool.shape), stdin });
    } catch (error) {
      throw await startFailure(error, spec, machine);
    }
    const exit = await this.#drain(machine.connection, streams);
    stderr.hurry();
    const closed = Object.values(streams).map(async (stream) => {
      stream.end();
      if (!stream.readableEnded) await once(stream, 'end');
    });
    await Promise.all(closed);
    stderr.end();
    return [exit, stdout.bytes()];
  }

  /** All output to where it belongs, each acknowledged when it has been taken there. */
  async #drain(connection: GuestConnection, streams: Record<'stdout' | 'stderr', PassThrough>): Promise<Exit> {
    const taken = { stdout: 0, stderr: 0 };
    try {
      for await (const { stream, position, bytes } of connection.output()) {
        if (!streams[stream].write(bytes)) await once(streams[stream], 'drain');
        taken[stream] = position + bytes.length;
        connection.ack(taken);
      }
      return exitOf(await connection.exited);
    } catch (error) {
      if (!(error instanceof GuestError)) throw error;
      return this.exited;
    }
  }

  /** A guest that hangs, or says what it must not, is no place for a program. */
  async #watch(): Promise<void> {
    const { machine } = this.#prepared;
    const error = await machine.connection.closed;
    this.#settle(this.#ended ? { outOfMemory: false } : { outOfMemory: false, reason: await endOf(machine, error) });
    await machine.vm.kill();
  }

  #settle(exit: Exit): void {
    this.#ended = true;
    this.#exited.resolve(exit);
  }

  async #remove(): Promise<void> {
    const { files, onRemoved } = this.#options;
    const { machine, hold } = this.#prepared;
    this.#invoked = true;
    await machine.destroy();
    hold?.[Symbol.dispose]();
    await this.#exited.promise;
    await files.remove();
    onRemoved();
  }

  #tooLarge(maxOutput: number): SandboxError {
    const message = `Cannot take what "${this.#options.spec.program}" prints: it is more than ${maxOutput} bytes`;
    return new SandboxError('SANDBOX_OUTPUT_TOO_LARGE', message);
  }
}
