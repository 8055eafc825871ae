import type { SignalOptions } from '../abortable.ts';
import { authorizationFor, type AuthorizationOptions } from './authorization.ts';
import { parseCacheUrl } from './cache-url.ts';
import { fileTransport } from './file-transport.ts';
import { HttpTransport } from './http-transport.ts';
import { NarInfoCache } from './narinfo-cache.ts';
import type { NarInfo } from '../formats/path-info.ts';
import type { PathStore } from '../closure/path-source.ts';
import type { SecretKey } from '../formats/signing-key.ts';
import type { StorePath } from '../formats/store-path.ts';
import { TransportCache } from './transport-cache.ts';

/** What a cache says of itself in `nix-cache-info`; the settings of its URL go before that. */
export interface CacheInfo {
  readonly storeDir: string;
  /** Whether it likes many small queries. */
  readonly wantMassQuery: boolean;
  /** The lower, the earlier it is asked. */
  readonly priority: number;
}

/** A binary cache in Nix's own layout. */
export interface BinaryCache extends PathStore {
  /** Without user name, password and settings. */
  readonly url: string;
  /** @throws {@link NixError} `NIX_CACHE_INVALID` when there is no cache. */
  info(options?: SignalOptions): Promise<CacheInfo>;
  pathInfo(path: StorePath, options?: SignalOptions): Promise<NarInfo | undefined>;
}

/** Options of {@link openBinaryCache}. Times are in milliseconds. */
export interface BinaryCacheOptions extends AuthorizationOptions {
  /** Milliseconds without a sign of life after which a request fails. @default 30000 */
  timeout?: number | undefined;
  /** How often a request is repeated that failed for a passing reason: no connection, 408, 429, 5xx. @default 3 */
  retries?: number | undefined;
  /** Milliseconds before the first repetition, about; each next one waits twice as long. @default 250 */
  retryDelay?: number | undefined;
  /** Milliseconds for which a path that an HTTP cache has is remembered. @default 3600000 (an hour) */
  positiveTtl?: number | undefined;
  /**
   * Milliseconds for which it is remembered that an HTTP cache lacks a path. Nix keeps that for an hour; a long-lived process
   * would then not see what was uploaded a moment after it asked.
   *
   * @default 10000
   */
  negativeTtl?: number | undefined;
  /** How added NARs are compressed: `none`, `zstd` or `xz`. @default the URL's `compression`, or `zstd` */
  compression?: string | undefined;
  /** zstd: 1 to 22, xz: 0 to 9. @default the URL's `compression-level`, or 3 and 6 */
  compressionLevel?: number | undefined;
  /** Added paths get a signature by each, and by those in the files that the URL names as `secret-key` and `secret-keys`. */
  secretKeys?: readonly SecretKey[] | undefined;
  /** Whether a listing of its files is put next to each added path. @default the URL's `write-nar-listing`, or false */
  writeNarListing?: boolean | undefined;
}

const DEFAULT_TIMEOUT = 30_000;
const DEFAULT_RETRIES = 3;
const DEFAULT_RETRY_DELAY = 250;
const DEFAULT_POSITIVE_TTL = 3_600_000;
const DEFAULT_NEGATIVE_TTL = 10_000;

/**
 * A binary cache at a `file://`, `http://` or `https://` URL. Of the settings that Nix takes after `?`, these count: `compression`,
 * `compression-level`, `priority`, `want-mass-query`, `secret-key`, `secret-keys` and `write-nar-listing`; all others are ignored.
 * Nothing is opened yet. Connections are kept for a short while, which keeps no process alive.
 *
 * @throws {@link NixError} `NIX_CACHE_URL_INVALID`.
 */
export function openBinaryCache(url: string, options: BinaryCacheOptions = {}): BinaryCache {
  const { base, login, settings } = parseCacheUrl(url);
  const isFile = base.protocol === 'file:';
  const transport = isFile
    ? fileTransport(base)
    : new HttpTransport({
        timeout: options.timeout ?? DEFAULT_TIMEOUT,
        retries: options.retries ?? DEFAULT_RETRIES,
        retryDelay: options.retryDelay ?? DEFAULT_RETRY_DELAY,
        authorization: authorizationFor(base, login, options),
      });
  // Files are quick to ask, and others may change them.
  const remembered = isFile
    ? new NarInfoCache({ positive: 0, negative: 0 })
    : new NarInfoCache({
        positive: options.positiveTtl ?? DEFAULT_POSITIVE_TTL,
        negative: options.negativeTtl ?? DEFAULT_NEGATIVE_TTL,
      });
  return new TransportCache(base, transport, remembered, {
    compression: options.compression ?? settings.compression ?? 'zstd',
    compressionLevel: options.compressionLevel ?? settings.compressionLevel,
    secretKeys: options.secretKeys ?? [],
    secretKeyFiles: settings.secretKeyFiles,
    writeNarListing: options.writeNarListing ?? settings.writeNarListing ?? false,
    priority: settings.priority,
    wantMassQuery: settings.wantMassQuery,
  });
}
