import { createHash, type Hash } from 'node:crypto';
import {
  checkTrust,
  narHashOf,
  type NarInfo,
  NixError,
  type PublicKey,
  readNar,
  type SecretKey,
  signPathInfo,
  type StorePath,
} from '@nex-nix/nix';
import { claimPath } from './care/claims.ts';
import { dropCorruptChunk, readChunks } from './chunk-store.ts';
import { cacheNarInfo, decodeEntry, type DecodedEntry, type Entry } from './entry.ts';
import { CacheError, type CacheErrorCode } from './errors.ts';
import type { IndexStore, StoredNarInfo } from './index-store.ts';
import type { JetStream } from './jetstream.ts';
import { decodeManifest } from './manifest.ts';
import { mapOrdered } from './map-ordered.ts';
import type { PresenceSet } from './presence-set.ts';
import type { CommitOutcome } from './protocol.ts';
import { requireSameContent } from './same-content.ts';

/** What a commit needs of the service. */
export interface CommitContext {
  readonly jetstream: JetStream;
  readonly index: IndexStore;
  readonly presence: PresenceSet;
  readonly secretKey: SecretKey;
  readonly publicKey: PublicKey;
}

/** What is wrong with a manifest, or with the chunks it names. */
const DAMAGE: ReadonlySet<CacheErrorCode> = new Set([
  'CACHE_CHUNK_CORRUPT',
  'CACHE_CHUNK_MISSING',
  'CACHE_MANIFEST_INVALID',
  'CACHE_NAR_MISMATCH',
]);
/** References looked up at once. */
const REFERENCE_WINDOW = 16;

/**
 * Lists a path whose chunks have been stored: reads them back, verifies the NAR, signs the path, and writes manifest and
 * narinfo in this order. Nothing that the publisher says of the content is believed; that it may publish at all is what
 * the NATS permission on the subject says.
 *
 * May be repeated, also by several publishers and services at once.
 */
export async function commitPath(context: CommitContext, entry: Entry, signal: AbortSignal): Promise<CommitOutcome> {
  const decoded = decodeEntry(entry, 'commit');
  const { storePath } = decoded.info;
  for (;;) {
    const stored = await context.index.narInfo(storePath, signal);
    if (stored !== undefined && isDone(context, stored, decoded.info)) return { outcome: 'present' };
    const options = { stored: stored?.revision, signal };
    const revision = await claimPath(context.jetstream, { entry, decoded }, options);
    const outcome =
      revision === undefined ? undefined : await commitClaimed(context, { entry, decoded, stored, revision }, signal);
    // Otherwise somebody else has listed the path, or a collection has removed it: what was verified may be gone by now.
    if (outcome !== undefined) return outcome;
  }
}

/** @returns undefined when the record of the path is not the one that the commit has claimed any more. */
async function commitClaimed(
  context: CommitContext,
  {
    entry,
    decoded,
    ...claim
  }: { entry: Entry; decoded: DecodedEntry; stored: StoredNarInfo | undefined; revision: number },
  signal: AbortSignal,
): Promise<CommitOutcome | undefined> {
  await requireReferences(context.index, decoded.info, signal);
  await verifyContent(context, decoded, signal);
  await storeManifest(context, decoded.info, { body: entry.manifest, signal });
  return listPath(context, decoded.info, { ...claim, signal });
}

/** Whether a stored narinfo leaves nothing to do; throws when it is of other content. */
function isDone({ publicKey }: CommitContext, { info: stored }: StoredNarInfo, info: NarInfo): boolean {
  requireSameContent(stored, info, 'add');
  return checkTrust(stored, [publicKey]).trusted;
}

async function requireReferences(index: IndexStore, info: NarInfo, signal: AbortSignal): Promise<void> {
  const others = info.references.filter((reference) => reference !== info.storePath);
  const lookUp = async (path: StorePath, inner: AbortSignal) => ({ path, found: await index.narInfo(path, inner) });
  for await (const { path, found } of mapOrdered(others, lookUp, { window: REFERENCE_WINDOW, signal })) {
    if (found !== undefined) continue;
    throw new CacheError(
      'CACHE_REFERENCE_MISSING',
      `Cannot add "${info.storePath}": "${path}", which it refers to, is not in the cache`,
      { hint: 'Push the whole closure, references first', storePath: info.storePath },
    );
  }
}

/** Reads all chunks back and compares the NAR with what the path info says of it. */
async function verifyContent(
  context: CommitContext,
  { info, manifest }: DecodedEntry,
  signal: AbortSignal,
): Promise<void> {
  const { jetstream, presence } = context;
  const task = { path: info.storePath, signal };
  const hash = createHash('sha256');
  try {
    // Read as a NAR too: what is listed can be unpacked.
    const events = readNar(hashed(readChunks(jetstream, manifest, task), hash));
    while ((await events.next()).done !== true);
  } catch (error) {
    if (error instanceof NixError) throw notANar(info, error);
    const chunk = error instanceof CacheError ? manifest.chunks.find(({ id }) => id === error.chunk) : undefined;
    if (chunk !== undefined) {
      presence.delete(chunk.id);
      await dropCorruptChunk(jetstream, chunk, task);
    }
    throw error;
  }
  const narHash = narHashOf(hash.digest());
  if (narHash !== info.narHash) {
    throw new CacheError(
      'CACHE_NAR_MISMATCH',
      `Cannot add "${info.storePath}": its chunks are the NAR ${narHash}, its path info says ${info.narHash}`,
      { hint: `Check the store it comes from: nix-store --verify-path ${info.storePath}`, storePath: info.storePath },
    );
  }
  for (const { id } of manifest.chunks) presence.add(id);
}

/**
 * Stores a manifest that was verified. One that its NAR has already stays: it was verified when it came. But another one, of a
 * push that cut or normalised otherwise, may have lost a chunk that this one does not need: such a one is replaced.
 */
async function storeManifest(
  context: CommitContext,
  info: NarInfo,
  { body, signal }: { body: Uint8Array; signal: AbortSignal },
): Promise<void> {
  const { index } = context;
  const task = { path: info.storePath, signal };
  while (!(await index.storeManifest(info.narHash, body, task))) {
    const stored = await index.storedManifest(info.narHash, task);
    if (stored === undefined) continue;
    if (Buffer.compare(stored.data, body) === 0 || (await isWhole(context, info, { body: stored.data, signal })))
      return;
    await index.dropManifest(stored.seq, task);
  }
}

async function isWhole(
  context: CommitContext,
  info: NarInfo,
  { body, signal }: { body: Uint8Array; signal: AbortSignal },
): Promise<boolean> {
  try {
    await verifyContent(context, { info, manifest: decodeManifest(body, info.storePath) }, signal);
    return true;
  } catch (error) {
    if (error instanceof CacheError && DAMAGE.has(error.code)) return false;
    throw error;
  }
}

async function* hashed(source: AsyncIterable<Uint8Array>, hash: Hash): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const bytes of source) {
    hash.update(bytes);
    yield bytes;
  }
}

function notANar({ storePath }: NarInfo, cause: NixError): CacheError {
  return new CacheError('CACHE_NAR_MISMATCH', `Cannot add "${storePath}": its chunks are no NAR (${cause.message})`, {
    cause,
    storePath,
  });
}

async function listPath(
  context: CommitContext,
  info: NarInfo,
  claim: { stored: StoredNarInfo | undefined; revision: number; signal: AbortSignal },
): Promise<CommitOutcome | undefined> {
  const { signal } = claim;
  let { revision, stored: found } = claim;
  for (;;) {
    const text = cacheNarInfo(signed(context, info, found));
    if (await context.index.storeNarInfo(info.storePath, text, { revision, signal })) {
      return { outcome: 'added' };
    }
    // Somebody else has listed it since: either there is nothing left to do, or our signature goes beside theirs.
    found = await context.index.narInfo(info.storePath, signal);
    if (found === undefined) return undefined;
    if (isDone(context, found, info)) return { outcome: 'present' };
    ({ revision } = found);
  }
}

/** The path info with the signatures of the publisher, of what is stored, and of this cache. */
function signed({ secretKey }: CommitContext, info: NarInfo, stored: StoredNarInfo | undefined): NarInfo {
  const others = [...info.signatures, ...(stored?.info.signatures ?? [])].filter(
    (signature) => !signature.startsWith(`${secretKey.name}:`),
  );
  return { ...info, signatures: [...new Set([...others, signPathInfo(info, secretKey)])] };
}
