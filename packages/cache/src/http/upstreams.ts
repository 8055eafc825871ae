import {
  contentCheck,
  type NarInfo,
  openBinaryCache,
  parseNarInfo,
  type PathInfo,
  type PathSource,
  type PublicKey,
  requireTrust,
  storePathHash,
} from '@nex-nix/nix';
import type { Logger } from '../logger.ts';
import type { NatsCache } from '../nats-cache.ts';
import { Semaphore } from '../semaphore.ts';

/** Binary caches that are asked for what this one lacks. */
export interface UpstreamOptions {
  /** `http://` and `https://` URLs, in the order in which they are asked. */
  readonly urls: readonly string[];
  /** A path is taken when one of them has signed it, or its content proves it. */
  readonly trustedKeys: readonly PublicKey[];
  readonly logger?: Logger | undefined;
}

const NARINFO_MAX = 1024 * 1024;
const LOOK_UP_TIMEOUT_MS = 10_000;
/** For which it is remembered that no upstream has a path. */
const ABSENT_MS = 60_000;

/** Pulls paths through: what is asked for and not there is fetched with all that it refers to, verified, and stored. */
export class Upstreams {
  readonly #cache: NatsCache;
  readonly #options: UpstreamOptions;
  /** One at a time: the paths of one closure are asked for at once, and the first brings them all. */
  readonly #turn = new Semaphore(1);
  readonly #absentUntil = new Map<string, number>();

  constructor(cache: NatsCache, options: UpstreamOptions) {
    this.#cache = cache;
    this.#options = options;
  }

  /** Brings the path with this hash part into the cache; says whether one of the upstreams had it, and it could be trusted. */
  async fetch(hashPart: string, signal: AbortSignal): Promise<boolean> {
    if ((this.#absentUntil.get(hashPart) ?? 0) > performance.now()) return false;
    using _ = await this.#turn.acquire(1, signal);
    let isAbsent = true;
    for (const url of this.#options.urls) {
      try {
        const info = await lookUp(url, hashPart, signal);
        if (info === undefined) continue;
        if ((await this.#cache.pathInfo(info.storePath, { signal })) === undefined) {
          await this.#cache.push(this.#trusted(url), [info.storePath], { signal });
        }
        return true;
      } catch (error) {
        signal.throwIfAborted();
        isAbsent = false;
        this.#options.logger?.error({ upstream: url, path: hashPart, err: error }, 'cannot pull through');
      }
    }
    if (isAbsent) this.#remember(hashPart);
    return false;
  }

  #remember(hashPart: string): void {
    const now = performance.now();
    for (const [known, until] of this.#absentUntil) if (until <= now) this.#absentUntil.delete(known);
    this.#absentUntil.set(hashPart, now + ABSENT_MS);
  }

  /** The upstream, as far as it can be trusted. */
  #trusted(url: string): PathSource {
    const upstream = openBinaryCache(url);
    const { trustedKeys } = this.#options;
    return {
      name: upstream.name,
      async pathInfo(path, options) {
        const info = await upstream.pathInfo(path, options);
        if (info !== undefined) requireTrust(info, trustedKeys);
        return info;
      },
      nar: (info, options) => checked(info, upstream.nar(info, { ...options, reuseChunks: false }), upstream.name),
    };
  }
}

/** Compares content with the content address of its path, which may be all that proves it. */
async function* checked(info: PathInfo, nar: AsyncIterable<Uint8Array>, origin: string): AsyncGenerator<Uint8Array> {
  const check = contentCheck(info);
  for await (const bytes of nar) {
    check?.update(bytes);
    yield bytes;
  }
  check?.verify(origin);
}

async function lookUp(url: string, hashPart: string, signal: AbortSignal): Promise<NarInfo | undefined> {
  const file = `${url.replace(/\/*$/, '')}/${hashPart}.narinfo`;
  const within = AbortSignal.any([signal, AbortSignal.timeout(LOOK_UP_TIMEOUT_MS)]);
  const response = await fetch(file, { signal: within });
  if (response.status === 404 || response.status === 403) {
    await response.body?.cancel();
    return undefined;
  }
  if (!response.ok || response.body === null) {
    await response.body?.cancel();
    throw new Error(`${file} answers ${response.status}`);
  }
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of response.body) {
    size += part.length;
    if (size > NARINFO_MAX) throw new Error(`${file} has more than ${NARINFO_MAX} bytes`);
    parts.push(part);
  }
  const info = parseNarInfo(Buffer.concat(parts).toString(), file);
  if (storePathHash(info.storePath) !== hashPart) throw new Error(`${file} is of "${info.storePath}"`);
  return info;
}
