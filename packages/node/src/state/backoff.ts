const FIRST_WAIT = 5_000;
const LONGEST_WAIT = 300_000;

/** How long what failed is left alone: 5 s, then twice as long each time, up to 5 minutes. */
export class Backoff {
  readonly #failures = new Map<string, { wait: number; until: number; why: string }>();

  /** Notes a failure; returns how long to wait, in milliseconds. */
  failed(id: string, why: string, now = Date.now()): number {
    const before = this.#failures.get(id);
    const wait = before === undefined ? FIRST_WAIT : Math.min(2 * before.wait, LONGEST_WAIT);
    this.#failures.set(id, { wait, until: now + wait, why });
    return wait;
  }

  /** Whether its time to wait is not over. */
  holds(id: string, now = Date.now()): boolean {
    return (this.#failures.get(id)?.until ?? 0) > now;
  }

  /** Why it failed last. */
  reason(id: string): string | undefined {
    return this.#failures.get(id)?.why;
  }

  /** Forgets the failures of all others. */
  keep(wanted: (id: string) => boolean): void {
    for (const id of this.#failures.keys()) if (!wanted(id)) this.#failures.delete(id);
  }
}
