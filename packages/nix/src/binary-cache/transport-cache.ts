import type { SignalOptions } from '../abortable.ts';
import type { NarOptions } from '../nar/nar-options.ts';
import type { BinaryCache, CacheInfo } from './binary-cache.ts';
import type { CacheTransport } from './cache-transport.ts';
import type { CacheUpload, UploadSettings } from './cache-upload.ts';
import { uploadPath } from './cache-upload.ts';
import { decompress } from './decompress.ts';
import { shownUrl } from './http-request.ts';
import type { NarInfoCache } from './narinfo-cache.ts';
import { NixError } from '../nix-error.ts';
import { parseNarInfo } from '../formats/narinfo.ts';
import type { NarInfo, PathInfo } from '../formats/path-info.ts';
import type { AddOptions } from '../closure/path-source.ts';
import { STORE_DIR, type StorePath, storePathHash } from '../formats/store-path.ts';

export interface TransportCacheSettings extends UploadSettings {
  readonly priority: number | undefined;
  readonly wantMassQuery: boolean | undefined;
}

const TEXT_MAX = 1024 * 1024;
/** What compression may add to a NAR, next to an eighth of it. */
const OVERHEAD_MAX = 1024 * 1024;
/** Path infos asked for at a time. */
const CONCURRENCY = 16;

/** The one implementation of {@link BinaryCache}: what differs between files and HTTP is in the transport. */
export class TransportCache implements BinaryCache {
  readonly url: string;
  readonly #base: URL;
  readonly #transport: CacheTransport;
  readonly #remembered: NarInfoCache;
  readonly #settings: TransportCacheSettings;
  #isCache = false;

  constructor(base: URL, transport: CacheTransport, remembered: NarInfoCache, settings: TransportCacheSettings) {
    this.#base = base;
    this.#transport = transport;
    this.#remembered = remembered;
    this.#settings = settings;
    this.url = base.href.replace(/\/$/, '');
  }

  get name(): string {
    return this.url;
  }

  async info(options: SignalOptions = {}): Promise<CacheInfo> {
    const text = await this.#text('nix-cache-info', options);
    if (text === undefined)
      throw new NixError(
        'NIX_CACHE_INVALID',
        `Cannot use "${this.url}": it has no nix-cache-info, so it is no binary cache`,
      );
    const fields = new Map(text.split('\n').map((line) => splitField(line)));
    return {
      storeDir: fields.get('StoreDir') ?? STORE_DIR,
      wantMassQuery: this.#settings.wantMassQuery ?? fields.get('WantMassQuery') === '1',
      priority: this.#settings.priority ?? (Number.parseInt(fields.get('Priority') ?? '0', 10) || 0),
    };
  }

  /** @throws {@link NixError} `NIX_NARINFO_INVALID`, `NIX_PATH_INFO_INVALID` when it is of another path, `NIX_CACHE_UNREACHABLE`. */
  async pathInfo(path: StorePath, options: SignalOptions = {}): Promise<NarInfo | undefined> {
    options.signal?.throwIfAborted();
    const known = this.#remembered.get(path);
    if (known !== undefined) return known === 'absent' ? undefined : known;
    return this.#askFor(path, options);
  }

  /** Asks the cache itself: what was there an hour ago may be gone, and what is pushed upon it would lack a reference. */
  async missing(paths: Iterable<StorePath>, options: SignalOptions = {}): Promise<StorePath[]> {
    const wanted = [...new Set(paths)];
    const isThere: boolean[] = [];
    const queue = wanted.entries();
    const failed = new AbortController();
    const signal = AbortSignal.any([failed.signal, ...(options.signal === undefined ? [] : [options.signal])]);
    const ask = async () => {
      for (const [index, path] of queue) {
        signal.throwIfAborted();
        isThere[index] = (await this.#askFor(path, { signal })) !== undefined;
      }
    };
    const asking = Array.from({ length: Math.min(CONCURRENCY, wanted.length) }, ask);
    try {
      await Promise.all(asking);
    } catch (error) {
      failed.abort(error);
      throw error;
    } finally {
      await Promise.allSettled(asking);
    }
    return wanted.filter((_, index) => isThere[index] !== true);
  }

  /** @throws {@link NixError} `NIX_PATH_NOT_FOUND`, `NIX_NAR_SIZE_MISMATCH` as soon as there is a byte too many, or at the end. */
  async *nar(info: PathInfo, options: NarOptions = {}): AsyncGenerator<Uint8Array, void> {
    const narInfo = isNarInfo(info) ? info : await this.pathInfo(info.storePath, options);
    if (narInfo === undefined) throw this.#narMissing(info);
    const origin = shownUrl(this.#resolve(narInfo.url));
    let left = info.narSize;
    const decoding = { origin, reuseChunks: options.reuseChunks ?? false };
    for await (const chunk of decompress(this.#file(narInfo, options), narInfo.compression, decoding)) {
      left -= chunk.length;
      if (left < 0) throw sizeError(info, origin, `has more than ${info.narSize} bytes`);
      yield chunk;
    }
    if (left > 0) throw sizeError(info, origin, `has ${info.narSize - left} bytes, expected ${info.narSize}`);
  }

  /**
   * Uploads a path: its NAR first, its narinfo at the very end. Everything it refers to must be in the cache by then. Where there is no
   * cache yet, it is made. What is remembered of an earlier failure to find the path spares asking again.
   *
   * @throws {@link NixError} `NIX_NAR_SIZE_MISMATCH`, `NIX_NAR_HASH_MISMATCH`, `NIX_REFERENCE_MISSING`, `NIX_CACHE_REFUSED`,
   *   `NIX_CACHE_UNREACHABLE`, `NIX_CACHE_WRITE_FAILED`, `NIX_COMPRESSION_UNSUPPORTED`.
   */
  async add(info: PathInfo, nar: AsyncIterable<Uint8Array>, options: AddOptions = {}): Promise<'added' | 'present'> {
    const { signal } = options;
    // Handled below; until then its failure is not an unhandled one.
    options.references?.catch(() => undefined);
    const isAbsent = this.#remembered.get(info.storePath) === 'absent';
    if (!isAbsent && (await this.#askFor(info.storePath, { signal })) !== undefined) {
      await nar[Symbol.asyncIterator]().return?.();
      return 'present';
    }
    await this.#makeCache(signal);
    const added = await uploadPath(this.#upload(), info, nar, options, this.#settings);
    this.#remembered.set(info.storePath, added);
    return 'added';
  }

  #upload(): CacheUpload {
    return {
      url: this.url,
      transport: this.#transport,
      resolve: (file) => this.#resolve(file),
      has: async (path, options) => (await this.pathInfo(path, options)) !== undefined,
    };
  }

  /** A cache of another store folder is refused; where there is none, `nix-cache-info` is written. */
  async #makeCache(signal: AbortSignal | undefined): Promise<void> {
    if (this.#isCache) return;
    if ((await this.#text('nix-cache-info', { signal })) === undefined) {
      const content = { text: `StoreDir: ${STORE_DIR}\n`, type: 'text/x-nix-cache-info' };
      await this.#transport.put(this.#resolve('nix-cache-info'), content, { signal });
    }
    const { storeDir } = await this.info({ signal });
    if (storeDir !== STORE_DIR)
      throw new NixError(
        'NIX_CACHE_INVALID',
        `Cannot add to "${this.url}": it is a cache of "${storeDir}", expected ${STORE_DIR}`,
      );
    this.#isCache = true;
  }

  async #askFor(path: StorePath, options: SignalOptions): Promise<NarInfo | undefined> {
    const file = `${storePathHash(path)}.narinfo`;
    const text = await this.#text(file, options);
    const info = text === undefined ? undefined : parseNarInfo(text, `${this.url}/${file}`);
    if (info !== undefined && info.storePath !== path)
      throw new NixError(
        'NIX_PATH_INFO_INVALID',
        `Cannot use "${this.url}/${file}": it is of "${info.storePath}", expected "${path}"`,
      );
    this.#remembered.set(path, info);
    return info;
  }

  /** The file with the NAR, asked for when the first byte is wanted. */
  async *#file(info: NarInfo, options: NarOptions): AsyncGenerator<Uint8Array, void> {
    const url = this.#resolve(info.url);
    const file = await this.#transport.get(url, options);
    if (file === undefined) {
      this.#remembered.delete(info.storePath);
      throw this.#narMissing(info);
    }
    // Frames without content could come for ever.
    let left = info.narSize + info.narSize / 8 + OVERHEAD_MAX;
    for await (const chunk of file) {
      left -= chunk.length;
      if (left < 0) throw sizeError(info, shownUrl(url), 'is much larger compressed than it should be at all');
      yield chunk;
    }
  }

  #narMissing({ storePath }: PathInfo): NixError {
    return new NixError('NIX_PATH_NOT_FOUND', `Cannot get the NAR of "${storePath}": it is not in "${this.url}"`, {
      hint: `Copy it there again with: nix copy --to ${this.url} ${storePath}`,
    });
  }

  #resolve(location: string): URL {
    const url = URL.parse(location, this.#base.href);
    const allowed = { 'file:': ['file:'], 'http:': ['http:', 'https:'] }[this.#base.protocol] ?? ['https:'];
    if (url === null || !allowed.includes(url.protocol))
      throw new NixError(
        'NIX_CACHE_INVALID',
        `Cannot get "${location}" of "${this.url}": it is not a URL that this cache may use`,
      );
    url.username = '';
    url.password = '';
    return url;
  }

  async #text(file: string, options: SignalOptions): Promise<string | undefined> {
    const content = await this.#transport.get(this.#resolve(file), options);
    if (content === undefined) return undefined;
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of content) {
      size += chunk.length;
      if (size > TEXT_MAX)
        throw new NixError(
          'NIX_CACHE_INVALID',
          `Cannot read "${this.url}/${file}": it has more than ${TEXT_MAX} bytes`,
        );
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString();
  }
}

function isNarInfo(info: PathInfo): info is NarInfo {
  return 'url' in info && 'compression' in info;
}

function splitField(line: string): [key: string, value: string] {
  const colon = line.indexOf(':');
  return [line.slice(0, Math.max(0, colon)), line.slice(colon + 1).trim()];
}

function sizeError(info: PathInfo, origin: string, why: string): NixError {
  return new NixError('NIX_NAR_SIZE_MISMATCH', `Cannot use "${origin}" for "${info.storePath}": the NAR ${why}`);
}
