import { parseStorePath, type StorePath } from '@nex-nix/nix';
import { CacheError } from '../errors.ts';

/** Name of the micro service. */
export const SERVICE_NAME = 'NixCache';
export const SERVICE_VERSION = '0.1.0';

/**
 * Subjects of the service. Who may pull needs `$NIXCACHE.read.>`, who may push `$NIXCACHE.write.>` as well, who may pin
 * `$NIXCACHE.pin.>`, who may remove and collect `$NIXCACHE.care.>`.
 *
 * | request         | body                                   | answer                                          |
 * | --------------- | -------------------------------------- | ----------------------------------------------- |
 * | `read.about`    |                                        | JSON {@link About}                              |
 * | `read.stat`     |                                        | JSON {@link CacheStat}                          |
 * | `read.known`    | store paths, one a line                | a bit for each: listed and signed               |
 * | `read.have`     | packed chunk ids                       | a bit for each: stored                          |
 * | `read.info`     | store paths, one a line                | the entries of those that the cache has         |
 * | `read.closure`  | store paths, one a line                | the entries of their closure                    |
 * | `read.find`     | hash parts of store paths, one a line  | the entries of those that the cache has         |
 * | `read.nar`      | a NAR hash                             | its manifest, or nothing                        |
 * | `write.commit`  | one entry                              | JSON {@link CommitOutcome}                      |
 * | `write.verify`  | one entry                              | JSON {@link VerifyOutcome}                      |
 * | `write.list`    | JSON {@link VerifiedPath}`[]`          | JSON {@link ListOutcome}`[]`                    |
 * | `write.hold`    | a manifest                             | JSON: the ids of its chunks that are not there  |
 * | `write.sign`    | a narinfo                              | JSON {@link CommitOutcome}, of its signatures   |
 * | `read.list`     | where the page begins, or nothing      | JSON `PathPage`                                 |
 * | `read.pins`     |                                        | JSON `Pin[]`                                    |
 * | `read.check`    | JSON `{chunks, path?, waitMs?}`        | JSON `DamagedChunk[]`; announces them for `path`|
 * | `read.collection` |                                      | JSON `CollectionProgress`, or null              |
 * | `write.used`    | store paths, one a line                |                                                 |
 * | `pin.set`       | JSON `{name, storePath, keep}`         |                                                 |
 * | `pin.delete`    | JSON `{name}`                          | JSON: whether there was one                     |
 * | `care.collect`  | JSON `CollectionRequest`               | JSON `GarbageReport`                            |
 * | `care.remove`   | JSON `{paths, force}`                  | JSON `RemoveReport`                             |
 */
const SUBJECT_PREFIX = '$NIXCACHE';
export const READ_GROUP = `${SUBJECT_PREFIX}.read`;
export const WRITE_GROUP = `${SUBJECT_PREFIX}.write`;
export const PIN_GROUP = `${SUBJECT_PREFIX}.pin`;
export const CARE_GROUP = `${SUBJECT_PREFIX}.care`;

export const SUBJECTS = {
  about: `${READ_GROUP}.about`,
  stat: `${READ_GROUP}.stat`,
  known: `${READ_GROUP}.known`,
  have: `${READ_GROUP}.have`,
  info: `${READ_GROUP}.info`,
  closure: `${READ_GROUP}.closure`,
  find: `${READ_GROUP}.find`,
  nar: `${READ_GROUP}.nar`,
  commit: `${WRITE_GROUP}.commit`,
  verify: `${WRITE_GROUP}.verify`,
  listVerified: `${WRITE_GROUP}.list`,
  hold: `${WRITE_GROUP}.hold`,
  sign: `${WRITE_GROUP}.sign`,
  list: `${READ_GROUP}.list`,
  pins: `${READ_GROUP}.pins`,
  check: `${READ_GROUP}.check`,
  collection: `${READ_GROUP}.collection`,
  used: `${WRITE_GROUP}.used`,
  pin: `${PIN_GROUP}.set`,
  unpin: `${PIN_GROUP}.delete`,
  collect: `${CARE_GROUP}.collect`,
  remove: `${CARE_GROUP}.remove`,
} as const;

/** What a cache service says of itself. */
export interface About {
  readonly version: string;
  /** In the form of Nix's `trusted-public-keys`. */
  readonly publicKey: string;
}

/** What a cache holds. */
export interface CacheStat {
  readonly paths: number;
  readonly chunks: number;
  /** Bytes that JetStream stores of chunks, manifests and narinfos. */
  readonly storedBytes: number;
  readonly manifests: number;
  readonly pins: number;
  /** Sum of the NARs of all paths. */
  readonly logicalBytes: number;
  /** `logicalBytes` by `storedBytes`, what deduplication and compression save together; 1 for an empty cache. */
  readonly dedupRatio: number;
}

/** What became of a commit: `present` when the cache had the path, with the same content and the cache's signature. */
export interface CommitOutcome {
  readonly outcome: 'added' | 'present';
}

/** What became of the verification of a path: it can be listed, or there is nothing left to do. */
export type VerifyOutcome = CommitOutcome | { readonly outcome: 'verified'; readonly receipt: Receipt };

/** That a service has verified a path, for every service of the same key. */
export interface Receipt {
  /** Of the claim on the path: with another claim, or without one, the receipt is void. */
  readonly revision: number;
  /** Base64 of the service's signature on it. */
  readonly signature: string;
}

/** A path that is to be listed. */
export interface VerifiedPath {
  readonly narInfo: string;
  readonly receipt: Receipt;
}

/** What became of a path that was to be listed; `stale`: it is to be verified again. */
export interface ListOutcome {
  readonly outcome: 'added' | 'present' | 'stale';
}

/**
 * Header of every message of an answer: `more`, or `last <number of messages>`. An answer is all its messages joined;
 * an empty `more` says that the service is still at it.
 */
export const PART_HEADER = 'Nix-Part';
/** An answer is cut into messages of about this size. */
export const PART_SIZE = 512 * 1024;
/** A service that is busy with a request says so this often. */
export const KEEP_ALIVE_MS = 1000;
/** A service that has said nothing for so long is gone. */
export const IDLE_TIMEOUT_MS = 4000;

/** Store paths that one request may name: they are at most 256 bytes each. */
export const PATHS_PER_REQUEST = 2048;
/** Chunk ids that one request may hold. */
export const IDS_PER_REQUEST = 8192;

/** Body of a request that names store paths. */
export function encodePaths(paths: readonly StorePath[]): string {
  return paths.join('\n');
}

/** Reads what {@link encodePaths} wrote. */
export function decodePaths(body: string): StorePath[] {
  return body === '' ? [] : body.split('\n').map(parseStorePath);
}

const HASH_PART = /^[0-9a-df-np-sv-z]{32}$/;

/** Whether `text` may be the hash part of a store path. */
export function isHashPart(text: string): boolean {
  return HASH_PART.test(text);
}

/** Reads a body that names hash parts of store paths, one a line. */
export function decodeHashParts(body: string): string[] {
  const hashParts = body === '' ? [] : body.split('\n');
  const wrong = hashParts.find((hashPart) => !isHashPart(hashPart));
  if (wrong === undefined) return hashParts;
  throw new CacheError('CACHE_PROTOCOL', `Cannot look up ${JSON.stringify(wrong)}: it is no hash part of a store path`);
}

/** The JSON that an answer is. */
export function decodeJson(body: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString());
  } catch (cause) {
    throw new CacheError('CACHE_PROTOCOL', `Cannot read what the cache service says of ${what}: it is no JSON`, {
      cause,
    });
  }
}

/** Body of a request to list paths. */
export function encodeVerified(paths: readonly VerifiedPath[]): string {
  return JSON.stringify(paths);
}

/** Reads what {@link encodeVerified} wrote. */
export function decodeVerified(body: Uint8Array): VerifiedPath[] {
  let paths: unknown;
  try {
    paths = JSON.parse(Buffer.from(body).toString());
  } catch (cause) {
    throw new CacheError('CACHE_PROTOCOL', 'Cannot list paths: what was sent is no JSON', { cause });
  }
  if (Array.isArray(paths) && paths.every(isVerifiedPath)) return paths;
  throw new CacheError('CACHE_PROTOCOL', 'Cannot list paths: what was sent are no paths with receipts');
}

function isVerifiedPath(value: Partial<VerifiedPath> | null): value is VerifiedPath {
  const { revision, signature } = value?.receipt ?? {};
  return typeof value?.narInfo === 'string' && Number.isSafeInteger(revision) && typeof signature === 'string';
}
