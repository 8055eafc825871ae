import { type Feeds, NexletError } from '@nex-nix/nexlet';

/** How long an end that somebody waits for waits for the NATS server, in milliseconds. */
const LAST_WORDS = 1_000;

/** Whether the NATS server has what a workload published. Waits as long as it takes, until somebody is in a hurry. */
export class Delivery {
  readonly #feeds: Feeds;
  /** Each limits the wait of one call. */
  readonly #limits = new Set<() => void>();
  #hurried = false;

  constructor(feeds: Feeds) {
    this.#feeds = feeds;
  }

  /** Somebody waits for the workload to end, or lets go of it: from now on a server that is away is not waited for long. */
  hurry(): void {
    this.#hurried = true;
    for (const limit of this.#limits) limit();
  }

  /** True when the server has all that was published so far; false when it does not come in time. */
  async delivered(): Promise<boolean> {
    const outcome = Promise.withResolvers<boolean>();
    let timer: NodeJS.Timeout | undefined;
    const limit = () => {
      timer ??= setTimeout(() => outcome.resolve(false), LAST_WORDS);
    };
    this.#limits.add(limit);
    if (this.#hurried) limit();
    this.#flushed().then(outcome.resolve, outcome.reject);
    try {
      return await outcome.promise;
    } finally {
      clearTimeout(timer);
      this.#limits.delete(limit);
    }
  }

  async #flushed(): Promise<boolean> {
    try {
      await this.#feeds.flushed();
      return true;
    } catch (error) {
      if (error instanceof NexletError) return false;
      throw error;
    }
  }
}
