import type { ServiceName, ServiceStatus } from '../dev-controls.ts';
import { DevError } from '../dev-error.ts';
import { KeptService } from './kept-service.ts';
import type { Service } from './service.ts';

export interface SupervisorListener {
  /** A line about what became of a service. */
  say(service: ServiceName, text: string): void;
  /** The state of something has changed. */
  changed(): void;
}

/** Starts services in the order that they need, side by side where they do not, keeps them running, and ends them in reverse order. */
export class Supervisor implements AsyncDisposable {
  readonly #services: readonly KeptService[];
  readonly #stopping = new AbortController();
  #starting: Promise<unknown> = Promise.resolve();
  #stopped: Promise<void> | undefined;

  constructor(services: readonly Service[], listener: SupervisorListener) {
    this.#services = services.map((service) => {
      const say = (text: string): void => listener.say(service.name, text);
      return new KeptService(service, { say, changed: () => listener.changed() });
    });
  }

  get statuses(): ServiceStatus[] {
    return this.#services.map(({ status }) => status);
  }

  /** Resolves when all are ready. Errors: that of the first which fails; everything is stopped then. */
  async start(signal: AbortSignal | undefined): Promise<void> {
    const failed = new AbortController();
    const signals = [failed.signal, this.#stopping.signal, ...(signal === undefined ? [] : [signal])];
    const stop = AbortSignal.any(signals);
    const starts = this.#services.map(async (service) => {
      try {
        await this.#startAfterOthers(service, stop);
      } catch (error) {
        failed.abort(error);
        throw error;
      }
    });
    this.#starting = Promise.allSettled(starts);
    try {
      await Promise.all(starts);
    } catch (error) {
      await this[Symbol.asyncDispose]();
      signal?.throwIfAborted();
      throw failed.signal.reason ?? error;
    }
  }

  /** Sets what a service has printed last. */
  printed(name: ServiceName, line: string): void {
    this.#kept(name).lastLine = line;
  }

  /** Ends a service and starts it again. Errors: `DevError` DEVENV_SERVICE_UNKNOWN, or why it does not start. */
  async restart(name: ServiceName): Promise<void> {
    const service = this.#kept(name);
    await service.isUp;
    await service.restart();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped ??= this.#stop();
    await this.#stopped;
  }

  async #stop(): Promise<void> {
    this.#stopping.abort();
    await this.#starting;
    const stops = new Map<ServiceName, Promise<void>>();
    for (const kept of this.#services.toReversed()) {
      const { name } = kept.service;
      const users = this.#services.filter(({ service }) => service.after.includes(name));
      const usersStopped = Promise.all(users.map(async ({ service }) => stops.get(service.name)));
      stops.set(
        name,
        usersStopped.then(() => kept.stop()),
      );
    }
    await Promise.all(stops.values());
  }

  async #startAfterOthers(service: KeptService, signal: AbortSignal): Promise<void> {
    const needed = service.service.after.map((name) => this.#kept(name));
    if (needed.length > 0) service.waitsFor(service.service.after);
    try {
      await Promise.all(needed.map(({ isUp }) => isUp));
    } catch (error) {
      service.neverStarted(error);
      throw error;
    }
    await service.start(signal);
  }

  #kept(name: ServiceName): KeptService {
    const kept = this.#services.find(({ service }) => service.name === name);
    if (kept !== undefined) return kept;
    const names = this.#services.map(({ service }) => service.name).join(', ');
    throw new DevError('DEVENV_SERVICE_UNKNOWN', `Cannot find the service "${name}": there are ${names}`);
  }
}
