import { SandboxError } from '../sandbox-error.ts';
import { Supervisor, type SupervisorSurroundings } from './supervisor.ts';

const SPARES = 2;

/** Time from the end of the last start to the making of spares, in milliseconds: whoever waits for that start has its outcome then. */
const REFILL_DELAY = 25;

/** Supervisors that were started before there is a sandbox for them, since that takes longer than the rest of a start. */
export class SpareSupervisors implements AsyncDisposable {
  readonly #surroundings: () => SupervisorSurroundings;
  #spares: Supervisor[] = [];
  /** Those that were let go. */
  readonly #going = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  /** Starts under way. */
  #starting = 0;
  #disposed = false;

  constructor(surroundings: () => SupervisorSurroundings) {
    this.#surroundings = surroundings;
  }

  /** Until it is disposed, a start is under way: no spares are made, which would hold it up. */
  starting(): Disposable {
    this.#starting++;
    return {
      [Symbol.dispose]: () => {
        this.#starting--;
        this.#refillLater();
      },
    };
  }

  /** A supervisor that is ready. Throws SANDBOX_START_FAILED when there cannot be one. */
  async take(): Promise<Supervisor> {
    const spare = this.#takeSpare();
    this.#refillLater();
    if (spare !== undefined && (await spare.ready)) return spare;
    const fresh = new Supervisor(this.#surroundings());
    if (await fresh.ready) return fresh;
    const words = await fresh.lastWords();
    throw new SandboxError('SANDBOX_START_FAILED', `Cannot start a sandbox: its supervisor ended at once (${words})`, {
      hint: 'unshare --mount /bin/sh -c true',
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    clearTimeout(this.#timer);
    await Promise.all([...this.#going, ...this.#spares.splice(0).map((spare) => spare.dismiss())]);
  }

  #takeSpare(): Supervisor | undefined {
    const outdated = this.#spares.filter((spare) => !spare.isCurrent);
    this.#spares = this.#spares.filter((spare) => !outdated.includes(spare));
    for (const spare of outdated) {
      const going = spare.dismiss();
      this.#going.add(going);
      void going.then(() => this.#going.delete(going));
    }
    return this.#spares.shift();
  }

  #refillLater(): void {
    clearTimeout(this.#timer);
    if (this.#disposed || this.#starting > 0) return;
    this.#timer = setTimeout(() => this.#refill(), REFILL_DELAY);
    this.#timer.unref();
  }

  /** One at a time: each holds this process up for some milliseconds. */
  #refill(): void {
    if (this.#spares.length >= SPARES) return;
    this.#spares.push(new Supervisor(this.#surroundings()));
    this.#refillLater();
  }
}
