import { formatContentAddress, parseContentAddress } from './content-address.ts';
import { type NarHash, parseHash, parseNarHash } from './hash.ts';
import { NixError } from '../nix-error.ts';
import { type PathInfo, sortPaths } from './path-info.ts';
import { parseStorePath, STORE_DIR, type StorePath } from './store-path.ts';

type Json = Readonly<Record<string, unknown>>;

/**
 * Reads what `nix path-info --json` prints, in any of its shapes: the array of Nix 2.4 to 2.18, the object keyed by path of
 * 2.19 and later, and the versions 2 and 3 of 2.33 and later. Paths that are not valid are left out.
 *
 * @throws {@link NixError} `NIX_PATH_INFO_INVALID`.
 */
export function parsePathInfoJson(text: string): PathInfo[] {
  try {
    return entries(JSON.parse(text)).flatMap(([path, entry]) =>
      isInvalid(entry) ? [] : [readEntry(path, asObject(entry))],
    );
  } catch (error) {
    if (!(error instanceof NixError || error instanceof SyntaxError)) throw error;
    throw new NixError('NIX_PATH_INFO_INVALID', `Cannot read the output of "nix path-info --json": ${error.message}`, {
      cause: error,
    });
  }
}

function entries(json: unknown): [path: string, entry: unknown][] {
  if (Array.isArray(json)) return json.map((entry: unknown) => [asString(asObject(entry)['path'], 'path'), entry]);
  const { info, storeDir } = asObject(json);
  if (info !== undefined && storeDir !== STORE_DIR) throw malformed(`storeDir is not "${STORE_DIR}"`);
  return Object.entries(asObject(info ?? json));
}

function isInvalid(entry: unknown): boolean {
  return entry === null || asObject(entry)['valid'] === false;
}

function readEntry(path: string, entry: Json): PathInfo {
  const deriver = entry['deriver'] ?? undefined;
  const ca = readContentAddress(entry['ca'] ?? undefined);
  return {
    storePath: readPath(path),
    narHash: readNarHash(entry['narHash']),
    narSize: readSize(entry['narSize']),
    references: sortPaths(
      asArray(entry['references'], 'references').map((reference) => readPath(asString(reference, 'references'))),
    ),
    ...(deriver === undefined ? {} : { deriver: readPath(asString(deriver, 'deriver')) }),
    signatures: asArray(entry['signatures'] ?? [], 'signatures')
      .map(readSignature)
      .sort(),
    ...(ca === undefined ? {} : { ca }),
  };
}

/** A full path, or the base name that version 2 prints. */
function readPath(text: string): StorePath {
  return parseStorePath(text.startsWith('/') ? text : `${STORE_DIR}/${text}`);
}

function readNarHash(value: unknown): NarHash {
  if (typeof value === 'string') return parseNarHash(value);
  const { algorithm, hash } = asObject(value);
  return parseNarHash(`${asString(algorithm, 'narHash')}:${asString(hash, 'narHash')}`);
}

function readSize(value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) return value;
  throw malformed('narSize is not a size');
}

/** A `<key name>:<base64>` string, or the object of version 3. */
function readSignature(value: unknown): string {
  if (typeof value === 'string') return value;
  const { keyName, sig } = asObject(value);
  return `${asString(keyName, 'signatures')}:${asString(sig, 'signatures')}`;
}

/** The text of a narinfo, or the `{ method, hash }` of version 2. */
function readContentAddress(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'string') {
    parseContentAddress(value);
    return value;
  }
  const { method, hash } = asObject(value);
  const parsed = parseHash(asString(hash, 'ca'));
  if (method === 'text' || method === 'flat' || method === 'nar') return formatContentAddress({ method, ...parsed });
  // Kept as what it is: an address that proves nothing, so that the path needs a signature.
  return `fixed:${asString(method, 'ca')}:${asString(hash, 'ca')}`;
}

function asObject(value: unknown): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw malformed('an object is missing');
}

function asArray(value: unknown, what: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw malformed(`${what} is not a list`);
}

function asString(value: unknown, what: string): string {
  if (typeof value === 'string') return value;
  throw malformed(`${what} is not a text`);
}

function malformed(message: string): NixError {
  return new NixError('NIX_PATH_INFO_INVALID', message);
}
