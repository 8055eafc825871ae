import { setTimeout as delay } from 'node:timers/promises';
import type { NexletDefinition } from './nexlet-definition.ts';
import type { Logger } from './logger.ts';
import { isAlive } from './workload-summaries.ts';

/** How long a heartbeat waits for the definition's list, in milliseconds. */
const PATIENCE = 200;

/** How many workloads of a nexlet are alive. A list that is slow, hangs or fails does not hold up who asks. */
export class WorkloadCount {
  readonly #list: NexletDefinition['list'];
  readonly #logger: Logger;
  #last = 0;
  #counting: Promise<void> | undefined;

  constructor(definition: NexletDefinition, logger: Logger) {
    this.#list = (options) => definition.list(options);
    this.#logger = logger;
  }

  /** The number now, or the last one known when it cannot be had in a moment. */
  async get(): Promise<number> {
    this.#counting ??= this.#count().finally(() => (this.#counting = undefined));
    const enough = new AbortController();
    await Promise.race([this.#counting, delay(PATIENCE, undefined, { signal: enough.signal }).catch(() => undefined)]);
    enough.abort();
    return this.#last;
  }

  async #count(): Promise<void> {
    try {
      this.#last = (await this.#list({ namespace: 'system', filter: [] })).filter(isAlive).length;
    } catch (error) {
      this.#logger.warn({ err: error }, 'workloads cannot be listed');
    }
  }
}
