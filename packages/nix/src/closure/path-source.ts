import { NixError } from '../nix-error.ts';
import type { SignalOptions } from '../abortable.ts';
import type { NarOptions } from '../nar/nar-options.ts';
import type { PathInfo } from '../formats/path-info.ts';
import type { StorePath } from '../formats/store-path.ts';

/** Where store paths come from: a store, a binary cache, a cache in NATS. */
export interface PathSource {
  /** How to call it in messages, for example its URL. Holds no password. */
  readonly name: string;
  /** What is known of a path; undefined when it is not there. */
  pathInfo(path: StorePath, options?: SignalOptions): Promise<PathInfo | undefined>;
  /** The closure of `roots` in one go, in any order, where that is cheaper than asking path by path. */
  closure?(roots: readonly StorePath[], options?: SignalOptions): Promise<PathInfo[]>;
  /**
   * The uncompressed NAR of a path that {@link pathInfo} of the same source told of.
   * Whoever reads verifies hash and size; the chunks do not change after they were handed out (`reuseChunks` aside).
   */
  nar(info: PathInfo, options?: NarOptions): AsyncIterable<Uint8Array>;
}

/** Options of {@link PathStore.add}. */
export interface AddOptions extends SignalOptions {
  /** Where the NAR comes from, for the error messages. */
  origin?: string | undefined;
  /** Fulfilled when everything the path refers to is valid: the content may come before that, the record of the path only after. */
  references?: Promise<unknown> | undefined;
}

/** Where store paths can go, and come from again: a store or a binary cache. */
export interface PathStore extends PathSource {
  /** Those of `paths` that are not valid there, each once. */
  missing(paths: Iterable<StorePath>, options?: SignalOptions): Promise<StorePath[]>;
  /**
   * Adds a path whose uncompressed NAR is `nar`, after its content was verified. When it fails, the path is not there.
   * A chunk of `nar` may change as soon as the next one is asked for.
   *
   * @returns `present` when the path was valid already, or became so meanwhile.
   */
  add(info: PathInfo, nar: AsyncIterable<Uint8Array>, options?: AddOptions): Promise<'added' | 'present'>;
  /** Keeps `paths`, valid or not yet, from being collected until it is disposed of; where collecting is a thing. */
  hold?(paths: Iterable<StorePath>): Disposable;
}

/** Path infos asked for at a time. */
const CONCURRENCY = 16;

/**
 * Path infos of `roots` and of everything they refer to, references first.
 *
 * @throws {@link NixError} `NIX_PATH_NOT_FOUND` naming the path, the source and who refers to it; `NIX_CLOSURE_CYCLE`.
 */
export async function queryClosure(
  source: PathSource,
  roots: readonly StorePath[],
  options: SignalOptions = {},
): Promise<PathInfo[]> {
  const infos =
    source.closure === undefined ? await walk(source, roots, options) : await source.closure(roots, options);
  return sortReferencesFirst(infos, roots, source.name);
}

/**
 * `infos` reachable from `roots`, every path after those it refers to (itself aside).
 *
 * @throws {@link NixError} `NIX_PATH_NOT_FOUND` when `infos` lacks one, `NIX_CLOSURE_CYCLE` when there is no such order.
 */
export function sortReferencesFirst(
  infos: Iterable<PathInfo>,
  roots: readonly StorePath[],
  sourceName: string,
): PathInfo[] {
  const known = new Map([...infos].map((info) => [info.storePath, info]));
  const sorted: PathInfo[] = [];
  const state = new Map<StorePath, 'open' | 'done'>();
  // Iterative: a chain of references may be longer than the stack is deep.
  const stack: { info: PathInfo; next: number }[] = [];
  const enter = (path: StorePath, referrer?: StorePath) => {
    if (state.get(path) === 'done') return;
    if (state.get(path) === 'open') {
      throw new NixError(
        'NIX_CLOSURE_CYCLE',
        `Cannot order the closure in "${sourceName}": "${path}" refers to itself through others`,
      );
    }
    const info = known.get(path);
    if (info === undefined) throw notFound(path, sourceName, referrer);
    state.set(path, 'open');
    stack.push({ info, next: 0 });
  };
  for (const root of roots) {
    enter(root);
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const reference = top.info.references[top.next++];
      if (reference === undefined) {
        stack.pop();
        state.set(top.info.storePath, 'done');
        sorted.push(top.info);
      } else if (reference !== top.info.storePath) enter(reference, top.info.storePath);
    }
  }
  return sorted;
}

async function walk(source: PathSource, roots: readonly StorePath[], options: SignalOptions): Promise<PathInfo[]> {
  const infos: PathInfo[] = [];
  const referrers = new Map<StorePath, StorePath | undefined>(roots.map((root) => [root, undefined]));
  const queue = [...referrers.keys()];
  const failed = new AbortController();
  const signal = AbortSignal.any([failed.signal, ...(options.signal === undefined ? [] : [options.signal])]);

  const query = async (path: StorePath) => {
    const info = await source.pathInfo(path, { signal });
    if (info === undefined) throw notFound(path, source.name, referrers.get(path));
    infos.push(info);
    for (const reference of info.references) {
      if (referrers.has(reference)) continue;
      referrers.set(reference, path);
      queue.push(reference);
    }
  };
  const running = new Set<Promise<void>>();
  try {
    while (queue.length > 0 || running.size > 0) {
      signal.throwIfAborted();
      const path = running.size < CONCURRENCY ? queue.pop() : undefined;
      if (path === undefined) {
        await Promise.race(running);
      } else {
        const task = query(path).finally(() => running.delete(task));
        running.add(task);
      }
    }
  } catch (error) {
    failed.abort(error);
    throw error;
  } finally {
    await Promise.allSettled(running);
  }
  return infos;
}

function notFound(path: StorePath, sourceName: string, referrer: StorePath | undefined): NixError {
  const because = referrer === undefined ? '' : `, which "${referrer}" refers to`;
  return new NixError('NIX_PATH_NOT_FOUND', `Cannot find "${path}"${because}: it is not in "${sourceName}"`, {
    hint: `Build it with: nix-store --realise ${path}; or copy it there with: nix copy --to URL ${referrer ?? path}`,
  });
}
