import type { SignalOptions } from '../abortable.ts';
import type { NarOptions } from '../nar/nar-options.ts';
import { type BinaryCache, type BinaryCacheOptions, openBinaryCache } from './binary-cache.ts';
import { NixError } from '../nix-error.ts';
import type { NarInfo, PathInfo } from '../formats/path-info.ts';
import type { PathSource } from '../closure/path-source.ts';
import type { StorePath } from '../formats/store-path.ts';

/** Options of {@link openSubstituters}. Times are in milliseconds. */
export interface SubstitutersOptions extends BinaryCacheOptions {
  /** Told of a cache that fails while another one may do. */
  onWarning?: ((error: NixError) => void) | undefined;
  /** Milliseconds for which a cache that cannot be reached is not asked again. @default 60000 */
  pause?: number | undefined;
}

/** Several binary caches that stand in for each other. */
export interface Substituters extends PathSource {
  pathInfo(path: StorePath, options?: SignalOptions): Promise<NarInfo | undefined>;
}

const DEFAULT_PAUSE = 60_000;

/**
 * One source over several binary caches. A path is looked for in the cache of the lowest priority first (as the cache says, or `?priority=` of
 * its URL; in the order of `urls` where that is the same), and then in the next. A cache that fails is passed over; when it cannot be
 * reached, for a while. A path is only said to be absent when every cache said so.
 *
 * `nar` begins with the cache that the info came from; as long as nothing was delivered, another one with the same NAR takes over.
 *
 * @throws {@link NixError} `NIX_CACHE_URL_INVALID`.
 */
export function openSubstituters(urls: readonly string[], options: SubstitutersOptions = {}): Substituters {
  const { onWarning, pause = DEFAULT_PAUSE, ...cacheOptions } = options;
  const members = urls.map((url) => new Member(openBinaryCache(url, cacheOptions), pause, onWarning));
  return new CacheList(members);
}

class CacheList implements Substituters {
  readonly name: string;
  readonly #members: readonly Member[];
  readonly #origins = new WeakMap<PathInfo, Member>();

  constructor(members: readonly Member[]) {
    this.#members = members;
    this.name = members.map(({ cache }) => cache.name).join(', ');
  }

  async pathInfo(path: StorePath, { signal }: SignalOptions = {}): Promise<NarInfo | undefined> {
    const errors: NixError[] = [];
    for (const member of await this.#ordered(signal)) {
      const info = await member.attempt(errors, signal, () => member.cache.pathInfo(path, { signal }));
      if (info === undefined) continue;
      this.#origins.set(info, member);
      return info;
    }
    if (errors.length > 0) throw this.#failed(path, errors);
    return undefined;
  }

  async *nar(info: PathInfo, options: NarOptions = {}): AsyncGenerator<Uint8Array, void> {
    const errors: NixError[] = [];
    const origin = this.#origins.get(info);
    const { signal } = options;
    const members = await this.#ordered(signal);
    for (const member of origin === undefined ? members : [origin, ...members.filter((other) => other !== origin)]) {
      const opened = await member.attempt(errors, signal, () => open(member, info, member === origin, options));
      if (opened === undefined) continue;
      try {
        yield opened.first;
        yield* opened.rest;
      } finally {
        await opened.rest.return?.();
      }
      return;
    }
    throw this.#failed(info.storePath, errors);
  }

  /** Those that can be asked now; of the others, `attempt` tells. */
  async #ordered(signal: AbortSignal | undefined): Promise<Member[]> {
    const priorities = await Promise.all(this.#members.map((member) => member.priority(signal)));
    return this.#members
      .map((member, index) => ({ member, priority: priorities[index] ?? Infinity }))
      .sort((a, b) => (a.priority === b.priority ? 0 : a.priority - b.priority))
      .map(({ member }) => member);
  }

  #failed(path: StorePath, errors: readonly NixError[]): NixError {
    if (errors.length === 0)
      return new NixError('NIX_PATH_NOT_FOUND', `Cannot find "${path}": it is not in "${this.name}"`);
    const said = errors.map(({ message }) => message).join('; ');
    const isReachable = errors.every(({ code }) => code !== 'NIX_CACHE_UNREACHABLE');
    return new NixError(
      isReachable ? (errors[0] as NixError).code : 'NIX_CACHE_UNREACHABLE',
      `Cannot get "${path}" from any of ${this.#members.length} binary caches: ${said}`,
      { hint: errors.find(({ hint }) => hint !== undefined)?.hint, cause: new AggregateError(errors) },
    );
  }
}

/** A NAR whose first chunk has come; undefined when the cache has another one, or none. */
async function open(member: Member, info: PathInfo, isOrigin: boolean, options: NarOptions) {
  const found = isOrigin ? info : await member.cache.pathInfo(info.storePath, { signal: options.signal });
  if (found?.narHash !== info.narHash || found.narSize !== info.narSize) return undefined;
  const rest = member.cache.nar(found, options)[Symbol.asyncIterator]() as AsyncGenerator<Uint8Array, void>;
  const first = await rest.next();
  return first.done === true ? undefined : { first: first.value, rest };
}

/** A cache, and how it did lately. */
class Member {
  readonly cache: BinaryCache;
  readonly #pause: number;
  readonly #onWarning: ((error: NixError) => void) | undefined;
  #priority: number | undefined;
  #down: { readonly error: NixError; readonly until: number } | undefined;

  constructor(cache: BinaryCache, pause: number, onWarning: ((error: NixError) => void) | undefined) {
    this.cache = cache;
    this.#pause = pause;
    this.#onWarning = onWarning;
  }

  /** Undefined as long as it is unknown. */
  async priority(signal: AbortSignal | undefined): Promise<number | undefined> {
    if (this.#priority !== undefined) return this.#priority;
    const errors: NixError[] = [];
    this.#priority = (await this.attempt(errors, signal, () => this.cache.info({ signal })))?.priority;
    // What does not say what it is need not be asked for anything else.
    if (errors[0] !== undefined) this.#rest(errors[0]);
    return this.#priority;
  }

  /** What `ask` gives; undefined when it fails, and then the error is one of `errors`. */
  async attempt<T>(errors: NixError[], signal: AbortSignal | undefined, ask: () => Promise<T>): Promise<T | undefined> {
    signal?.throwIfAborted();
    if (this.#down !== undefined && this.#down.until > performance.now()) {
      errors.push(this.#down.error);
      return undefined;
    }
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof NixError) || signal?.aborted === true) throw error;
      errors.push(error);
      if (error.code === 'NIX_CACHE_UNREACHABLE') this.#rest(error);
      this.#onWarning?.(error);
      return undefined;
    }
  }

  #rest(error: NixError): void {
    if (this.#down?.error !== error) this.#down = { error, until: performance.now() + this.#pause };
  }
}
