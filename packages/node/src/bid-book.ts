import { newId } from '@nex-nix/protocol';

/** What a node has offered: which nexlet is to run the workload. */
export interface OpenBid {
  readonly agentId: string;
}

/** The bids of a node that still hold. Each is good for one workload and for a limited time. */
export class BidBook implements Disposable {
  readonly #ttl: number;
  readonly #bids = new Map<string, OpenBid>();
  readonly #timers = new Map<string, NodeJS.Timeout>();

  constructor(ttlMs: number) {
    this.#ttl = ttlMs;
  }

  /** Opens a bid and returns its id. */
  open(bid: OpenBid): string {
    const id = newId();
    this.#bids.set(id, bid);
    this.#timers.set(
      id,
      setTimeout(() => this.take(id), this.#ttl),
    );
    return id;
  }

  /** The bid, which stays open. */
  peek(id: string): OpenBid | undefined {
    return this.#bids.get(id);
  }

  /** Ends a bid: because it is used, or too old. */
  take(id: string): OpenBid | undefined {
    const bid = this.#bids.get(id);
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
    this.#bids.delete(id);
    return bid;
  }

  /** Ends all bids. */
  [Symbol.dispose](): void {
    for (const id of this.#bids.keys()) this.take(id);
  }
}
