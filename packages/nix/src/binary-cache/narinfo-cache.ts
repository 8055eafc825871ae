import type { NarInfo } from '../formats/path-info.ts';
import type { StorePath } from '../formats/store-path.ts';

const ENTRIES_MAX = 10_000;

/** What a binary cache answered lately, for a limited time. The oldest entries go first. */
export class NarInfoCache {
  readonly #entries = new Map<StorePath, { readonly info: NarInfo | undefined; readonly until: number }>();
  readonly #positiveTtl: number;
  readonly #negativeTtl: number;

  /** @param ttl milliseconds for which answers count. */
  constructor(ttl: { positive: number; negative: number }) {
    this.#positiveTtl = ttl.positive;
    this.#negativeTtl = ttl.negative;
  }

  /** What is remembered of `path`: its info, `absent`, or undefined when nothing is. */
  get(path: StorePath): NarInfo | 'absent' | undefined {
    const entry = this.#entries.get(path);
    if (entry === undefined) return undefined;
    if (entry.until > performance.now()) return entry.info ?? 'absent';
    this.#entries.delete(path);
    return undefined;
  }

  set(path: StorePath, info: NarInfo | undefined): void {
    const ttl = info === undefined ? this.#negativeTtl : this.#positiveTtl;
    this.#entries.delete(path);
    if (ttl <= 0) return;
    this.#entries.set(path, { info, until: performance.now() + ttl });
    if (this.#entries.size <= ENTRIES_MAX) return;
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined) this.#entries.delete(oldest);
  }

  delete(path: StorePath): void {
    this.#entries.delete(path);
  }
}
