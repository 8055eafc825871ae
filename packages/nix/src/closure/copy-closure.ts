import type { LocalStore } from '../local-store/local-store.ts';
import type { SignalOptions } from '../abortable.ts';
import type { PathInfo } from '../formats/path-info.ts';
import { type PathSource, queryClosure, sortReferencesFirst } from './path-source.ts';
import type { PublicKey } from '../formats/signing-key.ts';
import type { StorePath } from '../formats/store-path.ts';
import { requireTrust } from '../formats/trust.ts';

export interface CopyProgress {
  /** The path that moved on. */
  readonly storePath: StorePath;
  /** Paths and NAR bytes copied so far, of those that were missing at the beginning. */
  readonly copiedPaths: number;
  readonly totalPaths: number;
  readonly copiedBytes: number;
  readonly totalBytes: number;
}

export interface CopyClosureOptions extends SignalOptions {
  /** A path must be signed by one of them, or be content-addressed. */
  trustedKeys: readonly PublicKey[];
  /** Paths copied at a time. @default 4 */
  concurrency?: number | undefined;
  /** Called for every piece that arrives and every path that is complete: throttle what is shown. */
  onProgress?: ((progress: CopyProgress) => void) | undefined;
  /** The closure, when it was queried from `from` already. */
  infos?: readonly PathInfo[] | undefined;
}

export interface CopyResult {
  /** Paths that were not there before, in the order in which they became valid. */
  readonly copied: StorePath[];
  /** Sum of their NAR sizes. */
  readonly narBytes: number;
}

const DEFAULT_CONCURRENCY = 4;

/**
 * Copies what `to` lacks of the closure of `roots`, references first. Trust is checked for every path of the closure before any
 * byte is fetched; hashes are verified by {@link LocalStore.add}. What was copied before a failure stays, complete and valid.
 * Nothing is asked of `from` when all is there already.
 *
 * @throws {@link NixError} `NIX_PATH_NOT_FOUND`, `NIX_PATH_UNTRUSTED`, and what {@link LocalStore.add} and the source throw.
 */
export async function copyClosure(
  from: PathSource,
  to: LocalStore,
  roots: readonly StorePath[],
  options: CopyClosureOptions,
): Promise<CopyResult> {
  const { trustedKeys, signal } = options;
  const allThere = (await to.missing(roots)).length === 0;
  const infos = allThere ? await to.closure(roots, { signal }) : await closureOf(from, roots, options);
  const missing = new Set(await to.missing(infos.map((info) => info.storePath)));
  for (const info of infos) {
    // What is here already was imported under the keys of that time; what counts is what is trusted now.
    const here = missing.has(info.storePath) ? undefined : await to.pathInfo(info.storePath);
    requireTrust(here ?? info, trustedKeys);
  }
  const copy = new ClosureCopy(
    from,
    to,
    infos.filter((info) => missing.has(info.storePath)),
    options,
  );
  return copy.run();
}

async function closureOf(from: PathSource, roots: readonly StorePath[], { infos, signal }: CopyClosureOptions) {
  return infos === undefined ? queryClosure(from, roots, { signal }) : sortReferencesFirst(infos, roots, from.name);
}

class ClosureCopy {
  readonly #from: PathSource;
  readonly #to: LocalStore;
  readonly #options: CopyClosureOptions;
  /** Paths still to be started, references first. */
  #waiting: PathInfo[];
  readonly #unfinished: Set<StorePath>;
  readonly #totalPaths: number;
  readonly #totalBytes: number;
  readonly #copied: StorePath[] = [];
  #narBytes = 0;
  #copiedPaths = 0;
  #copiedBytes = 0;

  constructor(from: PathSource, to: LocalStore, infos: readonly PathInfo[], options: CopyClosureOptions) {
    this.#from = from;
    this.#to = to;
    this.#options = options;
    this.#waiting = [...infos];
    this.#unfinished = new Set(infos.map((info) => info.storePath));
    this.#totalPaths = infos.length;
    this.#totalBytes = infos.reduce((sum, info) => sum + info.narSize, 0);
  }

  async run(): Promise<CopyResult> {
    const failed = new AbortController();
    const signal = AbortSignal.any([
      failed.signal,
      ...(this.#options.signal === undefined ? [] : [this.#options.signal]),
    ]);
    const running = new Set<Promise<void>>();
    try {
      while (this.#waiting.length > 0 || running.size > 0) {
        signal.throwIfAborted();
        const info = running.size < (this.#options.concurrency ?? DEFAULT_CONCURRENCY) ? this.#takeReady() : undefined;
        if (info === undefined) {
          await Promise.race(running);
        } else {
          const task = this.#copy(info, signal).finally(() => running.delete(task));
          running.add(task);
        }
      }
    } catch (error) {
      failed.abort(error);
      throw error;
    } finally {
      await Promise.allSettled(running);
    }
    return { copied: this.#copied, narBytes: this.#narBytes };
  }

  /** The next path all of whose references are there. As long as anything waits and nothing runs, there is one. */
  #takeReady(): PathInfo | undefined {
    const index = this.#waiting.findIndex((info) =>
      info.references.every((reference) => reference === info.storePath || !this.#unfinished.has(reference)),
    );
    return index === -1 ? undefined : this.#waiting.splice(index, 1)[0];
  }

  async #copy(info: PathInfo, signal: AbortSignal): Promise<void> {
    const nar = this.#counted(info, this.#from.nar(info, { signal }));
    const outcome = await this.#to.add(info, nar, { signal, origin: this.#from.name });
    if (outcome === 'added') {
      this.#copied.push(info.storePath);
      this.#narBytes += info.narSize;
    }
    this.#unfinished.delete(info.storePath);
    this.#copiedPaths++;
    this.#report(info);
  }

  async *#counted(info: PathInfo, nar: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
    for await (const chunk of nar) {
      yield chunk;
      this.#copiedBytes += chunk.length;
      this.#report(info);
    }
  }

  #report({ storePath }: PathInfo): void {
    this.#options.onProgress?.({
      storePath,
      copiedPaths: this.#copiedPaths,
      totalPaths: this.#totalPaths,
      copiedBytes: this.#copiedBytes,
      totalBytes: this.#totalBytes,
    });
  }
}
