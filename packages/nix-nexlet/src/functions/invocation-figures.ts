/** Events of invocations that one function sends a second, at most: one for each until then, as Nex 0.4 means it. */
const EVENTS_A_SECOND = 100;

/** Counts what a function did. */
export class InvocationFigures {
  #invocations = 0;
  #failures = 0;
  #durationMs = 0;
  #second = 0;
  #events = 0;

  add(durationMs: number, failed: boolean): void {
    this.#invocations++;
    if (failed) this.#failures++;
    this.#durationMs += durationMs;
  }

  /** Whether an event may be sent now. */
  mayTell(): boolean {
    const second = Math.floor(performance.now() / 1000);
    if (second !== this.#second) this.#events = 0;
    this.#second = second;
    return ++this.#events <= EVENTS_A_SECOND;
  }

  /** How long it ran, all invocations together, as Nex 0.4 shows it of functions. */
  get runtime(): string {
    return `${(this.#durationMs / 1000).toFixed(3)}s`;
  }

  get metadata(): Record<string, string> {
    const average = this.#invocations === 0 ? 0 : this.#durationMs / this.#invocations;
    return {
      invocations: String(this.#invocations),
      failed_invocations: String(this.#failures),
      invocation_seconds: (this.#durationMs / 1000).toFixed(6),
      average_duration: `${average.toFixed(1)}ms`,
    };
  }
}
