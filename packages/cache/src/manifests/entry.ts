import { formatNarInfo, NixError, parseNarInfo, type NarInfo, type PathInfo } from '@nex-nix/nix';
import { CacheError } from '../errors.ts';
import { narUrl } from '../jetstream/layout.ts';
import { decodeManifest, encodeManifest, type Manifest } from './manifest.ts';

/** What the cache knows of a path, as it travels: the text of its narinfo and its encoded manifest. */
export interface Entry {
  readonly narInfo: string;
  readonly manifest: Uint8Array;
}

/** An {@link Entry}, read. */
export interface DecodedEntry {
  readonly info: NarInfo;
  readonly manifest: Manifest;
}

/** The text of the narinfo that the cache keeps of a path. */
export function cacheNarInfo(info: PathInfo): string {
  const { storePath, narHash, narSize, references, signatures, deriver, ca } = info;
  return formatNarInfo({
    storePath,
    narHash,
    narSize,
    references,
    signatures,
    ...(deriver === undefined ? {} : { deriver }),
    ...(ca === undefined ? {} : { ca }),
    url: narUrl(narHash),
    compression: 'none',
  });
}

/** The entry of a path. */
export function makeEntry(info: PathInfo, manifest: Manifest): Entry {
  return { narInfo: cacheNarInfo(info), manifest: encodeManifest(manifest) };
}

/** Entries one after the other: for each, narinfo and manifest, each after its length as unsigned 32-bit little endian. */
export function encodeEntries(entries: readonly Entry[]): Uint8Array {
  return Buffer.concat(
    entries.flatMap(({ narInfo, manifest }) => [...framed(Buffer.from(narInfo)), ...framed(manifest)]),
  );
}

function framed(bytes: Uint8Array): [Uint8Array, Uint8Array] {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return [length, bytes];
}

/**
 * Reads what {@link encodeEntries} wrote.
 * @throws {@link CacheError} `CACHE_PROTOCOL`
 */
export function decodeEntries(bytes: Uint8Array): Entry[] {
  const encoded = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries: Entry[] = [];
  let at = 0;
  const next = () => {
    const start = at + 4;
    const end = start <= encoded.length ? start + encoded.readUInt32LE(at) : Infinity;
    if (end > encoded.length)
      throw new CacheError('CACHE_PROTOCOL', 'Cannot read the entries of a message: it is cut off');
    at = end;
    return encoded.subarray(start, end);
  };
  while (at < encoded.length) entries.push({ narInfo: next().toString(), manifest: next() });
  return entries;
}

/**
 * Reads narinfo and manifest of an entry, and checks that they are of the same NAR.
 * @throws {@link CacheError} `CACHE_NARINFO_INVALID`, `CACHE_MANIFEST_INVALID`
 */
export function decodeEntry(entry: Entry, origin: string): DecodedEntry {
  const info = readNarInfo(entry.narInfo, origin);
  const manifest = decodeManifest(entry.manifest, info.storePath);
  if (manifest.narHash !== info.narHash || manifest.narSize !== info.narSize) {
    const [is, wanted] = [manifest, info].map(({ narHash, narSize }) => `${narHash} (${narSize} bytes)`);
    throw new CacheError(
      'CACHE_MANIFEST_INVALID',
      `Cannot use the manifest of "${info.storePath}": it is of the NAR ${is}, the path has ${wanted}`,
    );
  }
  return { info, manifest };
}

/**
 * Reads a narinfo.
 * @throws {@link CacheError} `CACHE_NARINFO_INVALID`
 */
export function readNarInfo(text: string, origin: string): NarInfo {
  try {
    return parseNarInfo(text, origin);
  } catch (error) {
    if (!(error instanceof NixError)) throw error;
    throw new CacheError('CACHE_NARINFO_INVALID', error.message, { cause: error });
  }
}
