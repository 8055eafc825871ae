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
import type { Logger } from '../service/logger.ts';
import type { NatsCache } from '../nats-cache.ts';
import { Semaphore } from '../tasks/semaphore.ts';

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
/** For which an upstream that has failed is not asked: a closure has hundreds of paths, and nobody would wait for each. */
const DOWN_MS = 15_000;
/** Look-ups at once: a Nix client asks for all paths of a closure at once. */
const LOOK_UPS_AT_ONCE = 16;

/** That an upstream is not asked. What it failed with has been logged. */
class UpstreamDown extends Error {}

/** Pulls paths through: what is asked for and not there is fetched with all that it refers to, verified, and stored. */
export class Upstreams {
  readonly #cache: NatsCache;
  readonly #options: UpstreamOptions;
  /** One at a time: the paths of one closure are asked for at once, and the first brings them all. */
  readonly #turn = new Semaphore(1);
  readonly #lookUps = new Semaphore(LOOK_UPS_AT_ONCE);
  readonly #downUntil = new Map<string, number>();
  readonly #absentUntil = new Map<string, number>();

  constructor(cache: NatsCache, options: UpstreamOptions) {
    this.#cache = cache;
    this.#options = options;
  }

  /** Brings the path with this hash part into the cache; says whether one of the upstreams had it, and it could be trusted. */
  async fetch(hashPart: string, signal: AbortSignal): Promise<boolean> {
    if ((this.#absentUntil.get(hashPart) ?? 0) > performance.now()) return false;
    let isAbsent = true;
    for (const url of this.#options.urls) {
      try {
        const info = await this.#lookUp(url, hashPart, signal);
        if (info === undefined) continue;
        using _ = await this.#turn.acquire(1, signal);
        if ((await this.#cache.pathInfo(info.storePath, { signal })) === undefined) {
          await this.#cache.push(this.#trusted(url), [info.storePath], { signal });
        }
        return true;
      } catch (error) {
        signal.throwIfAborted();
        isAbsent = false;
        if (error instanceof UpstreamDown) continue;
        this.#options.logger?.error({ upstream: url, path: hashPart, err: error }, 'cannot pull through');
      }
    }
    if (isAbsent) this.#remember(hashPart);
    return false;
  }

  /** @throws {@link UpstreamDown} when the upstream has failed a moment ago, and so is not asked. */
  async #lookUp(url: string, hashPart: string, signal: AbortSignal): Promise<NarInfo | undefined> {
    using _ = await this.#lookUps.acquire(1, signal);
    if ((this.#downUntil.get(url) ?? 0) > performance.now()) throw new UpstreamDown(url);
    const file = `${url.replace(/\/*$/, '')}/${hashPart}.narinfo`;
    let text: string | undefined;
    try {
      text = await download(file, signal);
    } catch (error) {
      if (!signal.aborted) this.#downUntil.set(url, performance.now() + DOWN_MS);
      throw error;
    }
    if (text === undefined) return undefined;
    const info = parseNarInfo(text, file);
    if (storePathHash(info.storePath) !== hashPart) throw new Error(`${file} is of "${info.storePath}"`);
    return info;
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

/** A small file, or undefined when there is none. */
async function download(file: string, signal: AbortSignal): Promise<string | undefined> {
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
  return Buffer.concat(parts).toString();
}
