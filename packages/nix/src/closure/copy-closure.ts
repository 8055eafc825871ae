import type { SignalOptions } from '../abortable.ts';
import type { PathInfo } from '../formats/path-info.ts';
import { NixError } from '../nix-error.ts';
import { type PathSource, type PathStore, queryClosure, sortReferencesFirst } from './path-source.ts';
import type { PublicKey } from '../formats/signing-key.ts';
import type { StorePath } from '../formats/store-path.ts';
import { requireTrust } from '../formats/trust.ts';

/** How far a copy is. Bytes are those of uncompressed NARs. */
export interface CopyProgress {
  /** The path that moved on. */
  readonly storePath: StorePath;
  /** Paths and NAR bytes copied so far, of those that were missing at the beginning. */
  readonly copiedPaths: number;
  readonly totalPaths: number;
  readonly copiedBytes: number;
  readonly totalBytes: number;
}

/** Options of {@link copyClosure}. */
export interface CopyClosureOptions extends SignalOptions {
  /**
   * A path must be signed by one of them, or be content-addressed. `'unchecked'` takes every path whose content is what `from` says it
   * is: for a source that is trusted itself, such as the store of this machine.
   */
  trustedKeys: readonly PublicKey[] | 'unchecked';
  /** Paths read from `from` at a time. @default 4 */
  concurrency?: number | undefined;
  /** Called for every piece that arrives and every path that is complete: throttle what is shown. */
  onProgress?: ((progress: CopyProgress) => void) | undefined;
  /** The closure, when it was queried from `from` already. */
  infos?: readonly PathInfo[] | undefined;
}

/** What a copy did. */
export interface CopyResult {
  /** Paths that were not there before, in the order in which they became valid. */
  readonly copied: StorePath[];
  /** Sum of their NAR sizes. */
  readonly narBytes: number;
}

const DEFAULT_CONCURRENCY = 4;
/** Most paths that are under way, those included that were read and wait until what they refer to is valid: a failure costs them all. */
const MAX_UNDER_WAY = 32;

/**
 * Copies what `to` lacks of the closure of `roots`: several paths at a time, each valid only after those it refers to. Trust is
 * checked for every path of the closure before any byte is fetched; hashes are verified by {@link PathStore.add}. What was
 * copied before a failure stays, complete and valid, and is not copied again. Nothing is asked of `from` when all is there already.
 *
 * @throws {@link NixError} `NIX_PATH_NOT_FOUND`, `NIX_PATH_UNTRUSTED`, and what the source and {@link PathStore.add} throw.
 */
export async function copyClosure(
  from: PathSource,
  to: PathStore,
  roots: readonly StorePath[],
  options: CopyClosureOptions,
): Promise<CopyResult> {
  const { trustedKeys, signal } = options;
  const infos = (await closureThere(to, roots, options)) ?? (await closureHere(from, roots, options));
  const paths = infos.map((info) => info.storePath);
  // From here on: what is there must stay, and what comes must not go before the rest is there.
  using _held = to.hold?.(paths);
  const missing = new Set(await to.missing(paths, { signal }));
  if (trustedKeys !== 'unchecked') {
    for (const info of infos) {
      // What is there already was added under the keys of that time; what counts is what is trusted now.
      const there = missing.has(info.storePath) ? undefined : await to.pathInfo(info.storePath, { signal });
      requireTrust(there ?? info, trustedKeys);
    }
  }
  const absent = infos.filter((info) => missing.has(info.storePath));
  return await new ClosureCopy(from, to, absent, options).run();
}

/** The closure in `to`, or undefined when a part of it is missing there. */
async function closureThere(
  to: PathStore,
  roots: readonly StorePath[],
  { signal }: SignalOptions,
): Promise<PathInfo[] | undefined> {
  if ((await to.missing(roots, { signal })).length > 0) return undefined;
  try {
    return await queryClosure(to, roots, { signal });
  } catch (error) {
    // A binary cache may have lost what a path refers to.
    if (error instanceof NixError && error.code === 'NIX_PATH_NOT_FOUND') return undefined;
    throw error;
  }
}

async function closureHere(from: PathSource, roots: readonly StorePath[], { infos, signal }: CopyClosureOptions) {
  return infos === undefined ? queryClosure(from, roots, { signal }) : sortReferencesFirst(infos, roots, from.name);
}

class ClosureCopy {
  readonly #from: PathSource;
  readonly #to: PathStore;
  readonly #options: CopyClosureOptions;
  /** What is copied, references first, and of each path a promise that it is valid. */
  readonly #infos: readonly PathInfo[];
  readonly #valid = new Map<StorePath, Promise<void>>();
  readonly #totalBytes: number;
  readonly #copied: StorePath[] = [];
  #narBytes = 0;
  #copiedPaths = 0;
  #copiedBytes = 0;

  constructor(from: PathSource, to: PathStore, infos: readonly PathInfo[], options: CopyClosureOptions) {
    this.#from = from;
    this.#to = to;
    this.#options = options;
    this.#infos = infos;
    this.#totalBytes = infos.reduce((sum, info) => sum + info.narSize, 0);
  }

  async run(): Promise<CopyResult> {
    const { concurrency = DEFAULT_CONCURRENCY, signal } = this.#options;
    const failed = new AbortController();
    /** How to stop those that are being read. What was read already may become valid even if another path fails. */
    const reading = new Map<Promise<void>, AbortController>();
    const underWay = new Set<Promise<void>>();
    const fail = (error: unknown) => {
      failed.abort(error);
      for (const stop of reading.values()) stop.abort(error);
    };
    try {
      // What a path waits for has begun before it, so that it cannot wait for a place that it holds itself.
      for (const info of this.#infos) {
        while (reading.size >= concurrency) await Promise.race(reading.keys());
        while (underWay.size >= MAX_UNDER_WAY) await Promise.race(underWay);
        signal?.throwIfAborted();
        failed.signal.throwIfAborted();
        const stop = new AbortController();
        const read = Promise.withResolvers<void>();
        const onRead = () => {
          reading.delete(read.promise);
          read.resolve();
        };
        reading.set(read.promise, stop);
        const signals = signal === undefined ? [stop.signal] : [stop.signal, signal];
        const copying = this.#copy(info, AbortSignal.any(signals), onRead);
        this.#valid.set(info.storePath, copying);
        const ended = copying.catch(fail).finally(() => {
          onRead();
          underWay.delete(ended);
        });
        underWay.add(ended);
      }
      await Promise.all(this.#valid.values());
    } catch (error) {
      fail(error);
      throw error;
    } finally {
      await Promise.allSettled(this.#valid.values());
    }
    return { copied: this.#copied, narBytes: this.#narBytes };
  }

  /** Calls `onRead` when no more comes from the source, though the path may not be valid yet. */
  async #copy(info: PathInfo, signal: AbortSignal, onRead: () => void): Promise<void> {
    const references = Promise.all(info.references.map(async (path) => this.#valid.get(path)));
    // Who waits for it is told; that it may fail before anyone waits must not end the process.
    references.catch(() => undefined);
    const nar = this.#counted(info, this.#from.nar(info, { signal, reuseChunks: true }), onRead);
    const outcome = await this.#to.add(info, nar, { signal, origin: this.#from.name, references });
    if (outcome === 'added') {
      this.#copied.push(info.storePath);
      this.#narBytes += info.narSize;
    }
    this.#copiedPaths++;
    this.#report(info);
  }

  async *#counted(info: PathInfo, nar: AsyncIterable<Uint8Array>, onEnd: () => void): AsyncGenerator<Uint8Array, void> {
    for await (const chunk of nar) {
      yield chunk;
      this.#copiedBytes += chunk.length;
      this.#report(info);
    }
    onEnd();
  }

  #report({ storePath }: PathInfo): void {
    this.#options.onProgress?.({
      storePath,
      copiedPaths: this.#copiedPaths,
      totalPaths: this.#infos.length,
      copiedBytes: this.#copiedBytes,
      totalBytes: this.#totalBytes,
    });
  }
}
