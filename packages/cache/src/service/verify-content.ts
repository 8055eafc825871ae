import { createHash, type Hash } from 'node:crypto';
import { narHashOf, type NarInfo, NixError, readNar } from '@nex-nix/nix';
import { checkChunks } from '../care/damage.ts';
import { readChunks } from '../chunks/chunk-store.ts';
import type { DecodedEntry } from '../manifests/entry.ts';
import { CacheError, type CacheErrorCode } from '../errors.ts';
import { decodeManifest } from '../manifests/manifest.ts';
import { releaseMemory } from '../tasks/own-memory.ts';
import type { ServiceContext } from './service-context.ts';

/** Capacity of `ServiceContext.verifying`. */
export const VERIFY_MEMORY = 10 * 1024 * 1024;
/** What the verification of one NAR holds of it: the chunks that are fetched ahead, and no less than a request costs. */
const NAR_MEMORY = { most: 5 * 1024 * 1024, least: 256 * 1024 };

/** What is wrong with a manifest, or with the chunks it names. */
const DAMAGE: ReadonlySet<CacheErrorCode> = new Set([
  'CACHE_CHUNK_CORRUPT',
  'CACHE_CHUNK_MISSING',
  'CACHE_MANIFEST_INVALID',
  'CACHE_NAR_MISMATCH',
]);

/** Reads all chunks back and compares the NAR with what the path info says of it. */
export async function verifyContent(
  context: ServiceContext,
  { info, manifest }: DecodedEntry,
  signal: AbortSignal,
): Promise<void> {
  const { jetstream, presence, verifying } = context;
  const memory = Math.max(NAR_MEMORY.least, Math.min(NAR_MEMORY.most, info.narSize));
  using _ = await verifying.acquire(memory, signal);
  const task = { path: info.storePath, signal };
  const hash = createHash('sha256');
  try {
    // Read as a NAR too: what is listed can be unpacked.
    const events = readNar(hashed(readChunks(jetstream, manifest, task), hash));
    while ((await events.next()).done !== true);
  } catch (error) {
    if (error instanceof NixError) throw notANar(info, error);
    const chunk = error instanceof CacheError ? manifest.chunks.find(({ id }) => id === error.chunk) : undefined;
    // Makes room for it, so that the publisher can send it again.
    if (chunk !== undefined) await checkChunks(context, [chunk.id], signal);
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
export async function storeManifest(
  context: ServiceContext,
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
  context: ServiceContext,
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

/** Gives the memory of each piece back once the next one is asked for. */
async function* hashed(source: AsyncIterable<Uint8Array>, hash: Hash): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const bytes of source) {
    hash.update(bytes);
    yield bytes;
    releaseMemory(bytes);
  }
}

function notANar({ storePath }: NarInfo, cause: NixError): CacheError {
  return new CacheError('CACHE_NAR_MISMATCH', `Cannot add "${storePath}": its chunks are no NAR (${cause.message})`, {
    cause,
    storePath,
  });
}
