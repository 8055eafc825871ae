import { newId } from '@nex-nix/protocol';
import type { DeploymentStatus } from '../deployments/status.ts';

interface Start {
  readonly revision: number;
  /** When its answer was given up, by the monotonic clock; undefined while it is waited for. */
  unknownSince: number | undefined;
  /** Aborted when a node lists the replica: the answer is not needed any more. */
  readonly found: AbortController;
}

/** Starts whose outcome is not known: each counts as a replica until it is. */
export class PendingStarts {
  readonly #starts = new Map<string, Start>();

  /** @param inherited those of another controller, of which nobody waits for an answer any more */
  constructor(inherited: DeploymentStatus['starts'] = []) {
    for (const { id, revision } of inherited) this.#add(id, revision, performance.now());
  }

  get size(): number {
    return this.#starts.size;
  }

  /** `found` is aborted when a node lists the replica of the start. */
  begin(revision: number): { id: string; found: AbortSignal } {
    const id = newId();
    return { id, found: this.#add(id, revision, undefined).found.signal };
  }

  has(id: string): boolean {
    return this.#starts.has(id);
  }

  /** A node lists its replica. */
  found(id: string): void {
    this.#starts.get(id)?.found.abort();
    this.end(id);
  }

  /** It was accepted, or certainly not. */
  end(id: string): void {
    this.#starts.delete(id);
  }

  /** There will be no answer. */
  giveUp(id: string): void {
    const start = this.#starts.get(id);
    if (start !== undefined) start.unknownSince = performance.now();
  }

  /** A start of which nothing was seen for so long was none: bids do not hold that long. */
  forget(afterMs: number): void {
    const before = performance.now() - afterMs;
    for (const [id, { unknownSince }] of this.#starts) {
      if (unknownSince !== undefined && unknownSince < before) this.end(id);
    }
  }

  list(): DeploymentStatus['starts'] {
    return [...this.#starts].map(([id, { revision }]) => ({ id, revision }));
  }

  #add(id: string, revision: number, unknownSince: number | undefined): Start {
    const start = { revision, unknownSince, found: new AbortController() };
    this.#starts.set(id, start);
    return start;
  }
}
