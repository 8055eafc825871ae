import { setTimeout as delay } from 'node:timers/promises';
import { isNexError } from '@nex-nix/errors';
import type { VmShape } from '../vmm/vmm.ts';
import type { GuestMachine } from './guest-machine.ts';
import type { GuestMachines, MakeOptions } from './guest-machines.ts';
import type { MicrovmEvent } from './microvm-event.ts';
import type { Templates } from './templates.ts';

/** Pauses after one failure, after the next, and so on. */
const BACKOFF_MS = [1000, 5000, 15_000, 60_000];

const WARM_UP_TIMEOUT_MS = 60_000;

export interface GuestPoolOptions {
  size: number;
  shape: VmShape;
  machines: GuestMachines;
  /** Absent: machines are booted. */
  templates: Templates | undefined;
  onEvent: (event: MicrovmEvent) => void;
  /** Ends what is under way. */
  signal: AbortSignal;
}

/**
 * Machines of one shape with a ready agent that wait for a workload. They are made one after the other in the background,
 * and end with this process.
 */
export class GuestPool implements AsyncDisposable {
  readonly #options: GuestPoolOptions;
  readonly #ready: GuestMachine[] = [];
  #failures = 0;
  #filling: Promise<void> | undefined;
  /** Who takes the machine that is being made, before it comes into the pool. */
  #waiter: PromiseWithResolvers<GuestMachine | undefined> | undefined;

  constructor(options: GuestPoolOptions) {
    this.#options = options;
  }

  get shape(): VmShape {
    return this.#options.shape;
  }

  /** How many machines wait. */
  get ready(): number {
    return this.#ready.length;
  }

  /** Fills it in the background, unless that is under way. */
  fill(): void {
    if (this.#filling !== undefined || this.#options.signal.aborted) return;
    if (this.#ready.length >= this.#options.size) return;
    this.#filling = this.#fill().finally(() => (this.#filling = undefined));
  }

  /**
   * A machine that is nobody else's from now on. `warm`: it was ready before. The next one is made when `fill()` is called:
   * once this one's program runs, whose start it would delay.
   */
  async take(options: Omit<MakeOptions, 'template'>): Promise<{ machine: GuestMachine; warm: boolean }> {
    this.#options.signal.throwIfAborted();
    const machine = this.#ready.shift() ?? (await this.#next());
    if (machine !== undefined) return { machine, warm: true };
    this.#options.signal.throwIfAborted();
    return { machine: await this.make(options), warm: false };
  }

  /** A new machine, from the template if there is one that works. */
  async make(options: Omit<MakeOptions, 'template'>): Promise<GuestMachine> {
    const { templates, machines, shape, onEvent } = this.#options;
    if (templates === undefined) return machines.make(shape, options);
    try {
      const template = await templates.get(shape);
      return await machines.make(shape, { ...options, template });
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!isNexError(error)) throw error;
      onEvent({ type: 'failed', what: 'restoring a machine from its template', error });
      await templates.discard(shape);
      return machines.make(shape, options);
    }
  }

  /** To be called when the signal is aborted. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#filling;
    await Promise.all(this.#ready.splice(0).map((machine) => machine.destroy()));
  }

  /** The machine that is being made, if nobody else waits for it; undefined when there is none, or it fails. */
  async #next(): Promise<GuestMachine | undefined> {
    if (this.#filling === undefined || this.#waiter !== undefined || this.#failures > 0) return undefined;
    this.#waiter = Promise.withResolvers();
    return this.#waiter.promise;
  }

  async #fill(): Promise<void> {
    const { signal } = this.#options;
    while (this.#ready.length < this.#options.size && !signal.aborted) {
      try {
        const machine = await this.make({ what: 'a machine for the pool', signal });
        if (!this.#handOver(machine)) this.#add(await this.#warmUp(machine));
        this.#failures = 0;
      } catch (error) {
        this.#handOver(undefined);
        if (signal.aborted) return;
        this.#options.onEvent({ type: 'failed', what: 'filling the pool of machines', error });
        const pause = BACKOFF_MS[Math.min(this.#failures++, BACKOFF_MS.length - 1)];
        await delay(pause, undefined, { signal, ref: false }).catch(() => undefined);
      }
    }
    this.#handOver(undefined);
  }

  /**
   * Has a guest do what its first program will have it do. Its memory was loaded before the template was taken; but QEMU
   * without KVM translates every instruction anew in a machine that was restored, which takes as long as all the rest.
   */
  async #warmUp(machine: GuestMachine): Promise<GuestMachine> {
    try {
      await machine.connection.request(
        { type: 'settle' },
        { timeoutMs: WARM_UP_TIMEOUT_MS, signal: this.#options.signal },
      );
      return machine;
    } catch (error) {
      await machine.destroy();
      throw error;
    }
  }

  #add(machine: GuestMachine): void {
    if (this.#handOver(machine)) return;
    this.#ready.push(machine);
    this.#options.onEvent({ type: 'pooled', vmid: machine.id, pooled: this.#ready.length });
    void Promise.race([machine.vm.exited, machine.connection.closed]).then(() => this.#drop(machine));
  }

  /** Gives it to whoever waits; false when nobody does. */
  #handOver(machine: GuestMachine | undefined): boolean {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.resolve(machine);
    return waiter !== undefined;
  }

  /** One that ended while it waited is replaced. */
  async #drop(machine: GuestMachine): Promise<void> {
    const index = this.#ready.indexOf(machine);
    if (index === -1) return;
    this.#ready.splice(index, 1);
    try {
      await machine.destroy();
    } catch (error) {
      this.#options.onEvent({ type: 'failed', what: `removing the machine "${machine.id}"`, error });
    }
    this.fill();
  }
}
