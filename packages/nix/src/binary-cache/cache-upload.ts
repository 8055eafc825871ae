import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { settled, type SignalOptions } from '../abortable.ts';
import type { AddOptions } from '../closure/path-source.ts';
import type { CacheTransport } from './cache-transport.ts';
import { type Compression, compressionSettings, narFileSuffix } from './compress.ts';
import { decompress } from './decompress.ts';
import { formatNarInfo } from '../formats/narinfo.ts';
import { formatNarListing, listNar } from '../nar/nar-listing.ts';
import { NixError } from '../nix-error.ts';
import { type NarInfo, type PathInfo, sortPaths } from '../formats/path-info.ts';
import { parseSecretKey, type SecretKey, signPathInfo } from '../formats/signing-key.ts';
import { spoolNar, type SpooledNar } from './spool-nar.ts';
import { type StorePath, storePathHash } from '../formats/store-path.ts';

export interface UploadSettings {
  readonly compression: string;
  readonly compressionLevel: number | undefined;
  readonly secretKeys: readonly SecretKey[];
  readonly secretKeyFiles: readonly string[];
  readonly writeNarListing: boolean;
}

/** The cache that something is uploaded to. */
export interface CacheUpload {
  readonly url: string;
  readonly transport: CacheTransport;
  /** The URL of a file of the cache. */
  resolve(file: string): URL;
  has(path: StorePath, options: SignalOptions): Promise<boolean>;
}

/** Puts the NAR of a path into a cache, then what tells of it, and says what that is. */
export async function uploadPath(
  cache: CacheUpload,
  info: PathInfo,
  nar: AsyncIterable<Uint8Array>,
  { origin = 'its source', references, ...options }: AddOptions,
  settings: UploadSettings,
): Promise<NarInfo> {
  const { transport } = cache;
  // What will never be recorded need not be uploaded to its end.
  const failed = new AbortController();
  references?.catch((error: unknown) => failed.abort(error));
  const signal = AbortSignal.any([failed.signal, ...(options.signal === undefined ? [] : [options.signal])]);
  const keys = [...settings.secretKeys, ...(await Promise.all(settings.secretKeyFiles.map(readKey)))];
  const compression = compressionSettings(settings.compression, settings.compressionLevel);
  const folder = await transport.spoolFolder();
  await using spooled = await spoolNar(info, nar, { folder, compression, origin, signal });
  const file = `nar/${spooled.hash.replace(/^sha256:/, '')}${narFileSuffix(compression.compression)}`;
  const listing = settings.writeNarListing
    ? await listingOf(spooled, compression.compression, origin, signal)
    : undefined;

  const url = cache.resolve(file);
  if (!(await transport.has(url, { signal }))) {
    const content = { file: spooled.path, size: spooled.size, type: 'application/x-nix-nar' };
    await transport.put(url, content, { signal });
  }
  if (references !== undefined) await settled(references, signal);
  await requireReferences(cache, info, signal);

  const narInfo = narInfoOf(info, { url: file, compression: compression.compression, spooled, keys });
  const name = storePathHash(info.storePath);
  if (listing !== undefined)
    await transport.put(cache.resolve(`${name}.ls`), { text: listing, type: 'application/json' }, { signal });
  const content = { text: formatNarInfo(narInfo), type: 'text/x-nix-narinfo' };
  await transport.put(cache.resolve(`${name}.narinfo`), content, { signal });
  return narInfo;
}

interface Uploaded {
  readonly url: string;
  readonly compression: Compression;
  readonly spooled: SpooledNar;
  readonly keys: readonly SecretKey[];
}

function narInfoOf(info: PathInfo, { url, compression, spooled, keys }: Uploaded): NarInfo {
  const { storePath, narHash, narSize, deriver, ca } = info;
  const signatures = [...info.signatures, ...keys.map((key) => signPathInfo(info, key))];
  return {
    storePath,
    url,
    compression,
    fileHash: spooled.hash,
    fileSize: spooled.size,
    narHash,
    narSize,
    references: sortPaths(info.references),
    ...(deriver === undefined ? {} : { deriver }),
    signatures: [...new Set(signatures)].sort(),
    ...(ca === undefined ? {} : { ca }),
  };
}

async function requireReferences(cache: CacheUpload, info: PathInfo, signal: AbortSignal): Promise<void> {
  for (const reference of info.references) {
    if (reference === info.storePath || (await cache.has(reference, { signal }))) continue;
    throw new NixError(
      'NIX_REFERENCE_MISSING',
      `Cannot add "${info.storePath}" to "${cache.url}": it refers to "${reference}", which is not there`,
    );
  }
}

async function listingOf(
  { path }: SpooledNar,
  compression: Compression,
  origin: string,
  signal: AbortSignal,
): Promise<string> {
  return formatNarListing(await listNar(decompress(createReadStream(path), compression, { origin }), { signal }));
}

async function readKey(file: string): Promise<SecretKey> {
  try {
    return parseSecretKey(await readFile(file, 'utf8'));
  } catch (error) {
    if (error instanceof NixError) throw error;
    throw new NixError('NIX_KEY_INVALID', `Cannot read the secret key in "${file}": ${String(error)}`, {
      cause: error,
    });
  }
}
