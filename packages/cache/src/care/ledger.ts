import type { JetStream } from '../jetstream/jetstream.ts';
import { NARINFO_STREAM } from '../jetstream/layout.ts';
import { attempt } from '../jetstream/jetstream.ts';
import { pathRecords } from './path-record.ts';

/** How many paths are listed, and the sum of their NARs. Reads all once, then what has changed. */
export class Ledger {
  readonly #jetstream: JetStream;
  /** Size of the NAR of each listed path, by hash part. */
  #sizes = new Map<string, number>();
  #next = 1;
  #refreshing: Promise<void> = Promise.resolve();

  constructor(jetstream: JetStream) {
    this.#jetstream = jetstream;
  }

  async totals(signal: AbortSignal): Promise<{ paths: number; logicalBytes: number }> {
    // One after the other: two at once would read everything twice.
    const refreshed = this.#refreshing.then(() => this.#refresh(signal));
    this.#refreshing = refreshed.catch(() => undefined);
    await refreshed;
    const logicalBytes = [...this.#sizes.values()].reduce((sum, size) => sum + size, 0);
    return { paths: this.#sizes.size, logicalBytes };
  }

  async #refresh(signal: AbortSignal): Promise<void> {
    const { nc, jsm } = this.#jetstream;
    const task = { action: 'count the paths of the cache', signal };
    const { state } = await attempt(nc, task, () => jsm.streams.info(NARINFO_STREAM));
    if (state.messages < this.#sizes.size || state.last_seq + 1 < this.#next) {
      // Somebody has purged the stream.
      this.#sizes = new Map();
      this.#next = 1;
    }
    for await (const record of pathRecords(this.#jetstream, { ...task, from: this.#next })) {
      if (record.state === 'listed') this.#sizes.set(record.key, record.info.narSize);
      else this.#sizes.delete(record.key);
      this.#next = Math.max(this.#next, record.seq + 1);
    }
  }
}
