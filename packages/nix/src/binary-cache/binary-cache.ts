import { type CacheTransport, fileTransport } from './cache-transport.ts';
import { decompress } from './decompress.ts';
import { httpTransport } from './http-transport.ts';
import { parseNarInfo } from '../formats/narinfo.ts';
import { NixError } from '../nix-error.ts';
import type { SignalOptions } from '../abortable.ts';
import type { NarInfo, PathInfo } from '../formats/path-info.ts';
import type { PathSource } from '../closure/path-source.ts';
import { STORE_DIR, type StorePath, storePathHash } from '../formats/store-path.ts';

/** What a cache says of itself in `nix-cache-info`. */
export interface CacheInfo {
  readonly storeDir: string;
  /** Whether it likes many small queries. */
  readonly wantMassQuery: boolean;
  /** The lower, the earlier it is asked. */
  readonly priority: number;
}

/** A reader of a binary cache in Nix's own layout. */
export interface BinaryCache extends PathSource {
  /** Without user name, password and settings. */
  readonly url: string;
  /** @throws {@link NixError} `NIX_CACHE_INVALID` when there is no cache. */
  info(options?: SignalOptions): Promise<CacheInfo>;
  pathInfo(path: StorePath, options?: SignalOptions): Promise<NarInfo | undefined>;
}

export interface BinaryCacheOptions {
  /** Milliseconds without a sign of life after which a request fails. @default 30000 */
  timeout?: number;
}

const DEFAULT_TIMEOUT = 30_000;
const TEXT_MAX = 1024 * 1024;

/**
 * A binary cache at a `file://`, `http://` or `https://` URL. Settings that Nix takes after `?` are ignored: none matters for reading.
 * Nothing is opened yet, and nothing stays open between calls. Failed requests are not repeated.
 *
 * @throws {@link NixError} `NIX_CACHE_URL_INVALID`.
 */
export function openBinaryCache(url: string, options: BinaryCacheOptions = {}): BinaryCache {
  const parsed = URL.parse(url);
  if (parsed === null || !['file:', 'http:', 'https:'].includes(parsed.protocol)) {
    throw urlError(url, 'it is not a file://, http:// or https:// URL');
  }
  const base = baseUrl(parsed);
  if (parsed.protocol === 'file:') return new TransportCache(base, fileTransport(base));
  const credentials = credentialsOf(parsed);
  return new TransportCache(base, httpTransport({ timeout: options.timeout ?? DEFAULT_TIMEOUT, credentials }));
}

class TransportCache implements BinaryCache {
  readonly url: string;
  readonly #base: URL;
  readonly #transport: CacheTransport;

  constructor(base: URL, transport: CacheTransport) {
    this.#base = base;
    this.#transport = transport;
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
      wantMassQuery: fields.get('WantMassQuery') === '1',
      priority: Number.parseInt(fields.get('Priority') ?? '0', 10) || 0,
    };
  }

  /** @throws {@link NixError} `NIX_NARINFO_INVALID`, `NIX_PATH_INFO_INVALID` when it is of another path, `NIX_CACHE_UNREACHABLE`. */
  async pathInfo(path: StorePath, options: SignalOptions = {}): Promise<NarInfo | undefined> {
    const file = `${storePathHash(path)}.narinfo`;
    const text = await this.#text(file, options);
    if (text === undefined) return undefined;
    const info = parseNarInfo(text, `${this.url}/${file}`);
    if (info.storePath === path) return info;
    throw new NixError(
      'NIX_PATH_INFO_INVALID',
      `Cannot use "${this.url}/${file}": it is of "${info.storePath}", expected "${path}"`,
    );
  }

  /** @throws {@link NixError} `NIX_PATH_NOT_FOUND`, `NIX_NAR_SIZE_MISMATCH` as soon as there is a byte too many, or at the end. */
  async *nar(info: PathInfo, options: SignalOptions = {}): AsyncGenerator<Uint8Array, void> {
    const narInfo = isNarInfo(info) ? info : await this.pathInfo(info.storePath, options);
    if (narInfo === undefined) throw this.#narMissing(info);
    const origin = `${this.url}/${narInfo.url}`;
    let left = info.narSize;
    for await (const chunk of decompress(this.#file(narInfo, options), narInfo.compression, { origin })) {
      left -= chunk.length;
      if (left < 0) throw sizeError(info, origin, `has more than ${info.narSize} bytes`);
      yield chunk;
    }
    if (left > 0) throw sizeError(info, origin, `has ${info.narSize - left} bytes, expected ${info.narSize}`);
  }

  /** The file with the NAR, asked for when the first byte is wanted. */
  async *#file(info: NarInfo, options: SignalOptions): AsyncGenerator<Uint8Array, void> {
    const file = await this.#transport.get(this.#resolve(info.url), options);
    if (file === undefined) throw this.#narMissing(info);
    yield* file;
  }

  #narMissing({ storePath }: PathInfo): NixError {
    return new NixError('NIX_PATH_NOT_FOUND', `Cannot get the NAR of "${storePath}": it is not in "${this.url}"`, {
      hint: `Copy it there again with: nix copy --to ${this.url} ${storePath}`,
    });
  }

  #resolve(location: string): URL {
    const url = URL.parse(location, this.#base.href);
    const allowed = this.#base.protocol === 'file:' ? ['file:'] : ['http:', 'https:'];
    if (url !== null && allowed.includes(url.protocol)) return url;
    throw new NixError(
      'NIX_CACHE_INVALID',
      `Cannot get "${location}" of "${this.url}": it is not a URL that this cache may use`,
    );
  }

  async #text(file: string, options: SignalOptions): Promise<string | undefined> {
    const content = await this.#transport.get(new URL(file, this.#base), options);
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

function baseUrl(url: URL): URL {
  const base = new URL(url);
  base.search = '';
  base.hash = '';
  if (base.protocol !== 'file:') {
    base.username = '';
    base.password = '';
  }
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  return base;
}

function credentialsOf({ origin, username, password, href }: URL) {
  if (username === '' && password === '') return undefined;
  try {
    const plain = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    return { origin, authorization: `Basic ${Buffer.from(plain).toString('base64')}` };
  } catch (error) {
    if (!(error instanceof URIError)) throw error;
    throw urlError(href, 'its user name or password has a malformed % sequence');
  }
}

function urlError(url: string, why: string): NixError {
  const withoutPassword = url.replace(/\/\/[^/@]*@/, '//…@');
  return new NixError('NIX_CACHE_URL_INVALID', `Cannot open the binary cache "${withoutPassword}": ${why}`);
}

function splitField(line: string): [key: string, value: string] {
  const colon = line.indexOf(':');
  return [line.slice(0, Math.max(0, colon)), line.slice(colon + 1).trim()];
}

function sizeError(info: PathInfo, origin: string, why: string): NixError {
  return new NixError('NIX_NAR_SIZE_MISMATCH', `Cannot use "${origin}" for "${info.storePath}": the NAR ${why}`);
}
