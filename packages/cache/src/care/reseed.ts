import type { PathSource, StorePath } from '@nex-nix/nix';
import { call } from '../protocol/call.ts';
import { type ChunkId, chunkIdOf } from '../chunks/chunk-id.ts';
import { putChunk } from '../chunks/chunk-store.ts';
import { decodeEntries, decodeEntry } from '../manifests/entry.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import type { Manifest } from '../manifests/manifest.ts';
import { mapOrdered } from '../tasks/map-ordered.ts';
import { MentionPlaces } from '../manifests/mentions.ts';
import { encodePaths, SUBJECTS } from '../protocol/protocol.ts';
import { Compressor } from '../chunks/zstd.ts';
import { check } from './check.ts';
import { CHECKS_PER_REQUEST } from './damage.ts';

/** Chunks sent at once. */
const WINDOW = 4;

/**
 * Brings lost chunks of a path back from a source that has the path with the same content, and with them all others that the
 * path has lost. Its NAR is cut where the manifest says, and blanked where the manifest says: whoever listed it, and by
 * whichever rules, these are the chunks.
 * @param request.chunks - those that are known to be lost.
 * @returns those of them that are whole now.
 */
export async function reseed(
  jetstream: JetStream,
  { source, path, chunks }: { source: PathSource; path: StorePath; chunks: readonly ChunkId[] },
  signal: AbortSignal | undefined,
): Promise<ChunkId[]> {
  const info = await source.pathInfo(path, { signal });
  if (info === undefined) return [];
  const question = { subject: SUBJECTS.info, body: encodePaths([path]) };
  const answer = await call(jetstream, question, { action: `look up "${path}"`, signal });
  const listed = decodeEntries(answer).map((entry) => decodeEntry(entry, path))[0];
  if (listed === undefined || listed.info.narHash !== info.narHash) return [];
  const { manifest } = listed;
  const lost = await damagedOf(jetstream, new Set(manifest.chunks.map(({ id }) => id)), signal);
  if (lost.size === 0) return [...chunks];

  using compressor = new Compressor();
  const sent = new Set<ChunkId>();
  const send = async ({ id, bytes }: Piece, inner: AbortSignal) =>
    putChunk(jetstream, { id, bytes }, { compressor, signal: inner });
  const wanted: Piece[] = [];
  const flush = async () => {
    const puts = mapOrdered(wanted.splice(0), send, { window: WINDOW, signal });
    while ((await puts.next()).done !== true);
  };
  for await (const bytes of storedPieces(source.nar(info, { signal }), manifest)) {
    const id = chunkIdOf(bytes);
    // What is not one of the chunks is of a source whose NAR is not what it says.
    if (!lost.has(id) || sent.has(id)) continue;
    sent.add(id);
    wanted.push({ id, bytes });
    if (wanted.length === WINDOW) await flush();
  }
  await flush();
  const damaged = await damagedOf(jetstream, chunks, signal);
  return chunks.filter((chunk) => !damaged.has(chunk));
}

interface Piece {
  readonly id: ChunkId;
  readonly bytes: Uint8Array;
}

/** A NAR in the pieces that its manifest lists, with fillers where the manifest has mentions. */
async function* storedPieces(
  nar: AsyncIterable<Uint8Array>,
  manifest: Manifest,
): AsyncGenerator<Uint8Array, void, undefined> {
  const places = new MentionPlaces(manifest);
  let start = 0;
  for await (const bytes of pieces(nar, manifest.chunks)) {
    places.blank(bytes, start);
    start += bytes.length;
    yield bytes;
  }
}

/** Copies of the bytes of a source, in pieces of these sizes; what is left over is dropped. */
async function* pieces(
  source: AsyncIterable<Uint8Array>,
  chunks: readonly { readonly size: number }[],
): AsyncGenerator<Buffer, void, undefined> {
  let index = 0;
  let piece = Buffer.alloc(chunks[0]?.size ?? 0);
  let filled = 0;
  for await (const bytes of source) {
    for (let used = 0; used < bytes.length && index < chunks.length;) {
      const part = bytes.subarray(used, used + piece.length - filled);
      piece.set(part, filled);
      used += part.length;
      filled += part.length;
      if (filled < piece.length) continue;
      yield piece;
      piece = Buffer.alloc(chunks[++index]?.size ?? 0);
      filled = 0;
    }
  }
}

async function damagedOf(
  jetstream: JetStream,
  chunks: Iterable<ChunkId>,
  signal: AbortSignal | undefined,
): Promise<Set<ChunkId>> {
  const damaged = new Set<ChunkId>();
  const all = [...chunks];
  for (let at = 0; at < all.length; at += CHECKS_PER_REQUEST) {
    const page = all.slice(at, at + CHECKS_PER_REQUEST);
    for (const { chunk } of await check(jetstream, { chunks: page }, signal)) damaged.add(chunk);
  }
  return damaged;
}
