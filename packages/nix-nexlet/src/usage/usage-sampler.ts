import type { Feeds, Logger } from '@nex-nix/nexlet';
import type { Usage } from '@nex-nix/sandbox';
import { figuresOf, sampleOf, type UsageSample } from './usage-sample.ts';

/** Into how many steps the samples of one interval are spread. */
const STEPS = 10;

/** A workload as far as it is measured. */
export interface Measured {
  readonly id: string;
  readonly request: { readonly namespace: string; readonly name: string };
  readonly finished: boolean;
  /** Undefined while there is nothing to measure. */
  usage(): Promise<Usage | undefined>;
}

export interface UsageSamplerOptions {
  workloads: () => Iterable<Measured>;
  /** Time between two samples of one workload, in milliseconds; 0: none are taken. */
  intervalMs: number;
  logger: Logger;
}

/**
 * Measures what every workload uses, each once an interval, and publishes it on its metrics feed. One timer for all; the
 * samples are spread over the interval, and a slow machine gets fewer of them, never a queue.
 */
export class UsageSampler implements AsyncDisposable {
  readonly #options: UsageSamplerOptions;
  readonly #samples = new WeakMap<Measured, UsageSample>();
  /** When each was measured last, whether there was anything to measure or not. */
  readonly #measured = new WeakMap<Measured, number>();
  readonly #failing = new WeakSet<Measured>();
  #timer: NodeJS.Timeout | undefined;
  #step: Promise<void> | undefined;
  /** Whether the server has what was published. While there is none, samples are not kept for it: the logs are. */
  #heard = true;

  constructor(options: UsageSamplerOptions) {
    this.#options = options;
  }

  start(feeds: Feeds): void {
    const { intervalMs } = this.#options;
    if (intervalMs <= 0 || this.#timer !== undefined) return;
    this.#timer = setInterval(() => {
      this.#step ??= this.#measureSome(feeds).finally(() => (this.#step = undefined));
    }, intervalMs / STEPS);
  }

  /** The last sample of a workload that runs, as its summary has it. */
  metadataOf(workload: Measured): Record<string, string> {
    const sample = workload.finished ? undefined : this.#samples.get(workload);
    if (sample === undefined) return {};
    return Object.fromEntries(Object.entries(figuresOf(sample)).map(([name, figure]) => [name, String(figure)]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#step;
  }

  /** Measures those that have waited longest, no more than their part of the interval. */
  async #measureSome(feeds: Feeds): Promise<void> {
    const { intervalMs, workloads } = this.#options;
    const running = [...workloads()].filter(({ finished }) => !finished);
    const due = Date.now() - intervalMs + intervalMs / STEPS / 2;
    const waiting = running
      .map((workload) => ({ workload, measured: this.#measured.get(workload) ?? 0 }))
      .filter(({ measured }) => measured <= due)
      .sort((a, b) => a.measured - b.measured)
      .slice(0, Math.ceil(running.length / STEPS));
    const samples: (readonly [Measured, UsageSample])[] = [];
    for (const { workload } of waiting) {
      const sample = await this.#measure(workload);
      if (sample !== undefined) samples.push([workload, sample]);
    }
    this.#publish(feeds, samples);
  }

  async #measure(workload: Measured): Promise<UsageSample | undefined> {
    this.#measured.set(workload, Date.now());
    try {
      const usage = await workload.usage();
      this.#failing.delete(workload);
      if (usage !== undefined) {
        const sample = sampleOf(usage, Date.now(), this.#samples.get(workload));
        this.#samples.set(workload, sample);
        return sample;
      }
    } catch (error) {
      // It may just have ended, and what goes wrong once goes wrong at every sample.
      if (!workload.finished && !this.#failing.has(workload)) {
        this.#options.logger.warn({ workload: workload.id, err: error }, 'what a workload uses cannot be measured');
      }
      this.#failing.add(workload);
    }
    this.#samples.delete(workload);
    return undefined;
  }

  #publish(feeds: Feeds, samples: readonly (readonly [Measured, UsageSample])[]): void {
    if (samples.length === 0 || !this.#heard) return;
    for (const [{ id, request }, sample] of samples) {
      const { namespace, name } = request;
      const time = new Date(sample.time).toISOString();
      feeds.metric(namespace, id, JSON.stringify({ id, name, namespace, time, ...figuresOf(sample) }));
    }
    this.#heard = false;
    feeds.flushed().then(
      () => (this.#heard = true),
      // The nexlet ends: nothing is published any more.
      (error: unknown) => this.#options.logger.debug({ err: error }, 'the last samples may not have been heard'),
    );
  }
}
