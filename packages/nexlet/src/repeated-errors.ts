import type { Logger } from './logger.ts';

/** How many different errors are remembered. */
const REMEMBERED = 100;

/** Logs what the NATS server reports. A subject that is denied is so at each message: only the first one is a warning. */
export class RepeatedErrors {
  readonly #logger: Logger;
  readonly #seen = new Set<string>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  log(error: Error): void {
    const isNew = !this.#seen.has(error.message);
    if (isNew && this.#seen.size < REMEMBERED) this.#seen.add(error.message);
    const log = isNew ? this.#logger.warn : this.#logger.debug;
    log.call(this.#logger, { err: error }, 'NATS server reports an error');
  }
}
