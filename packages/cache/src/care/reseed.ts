import type { PathSource, StorePath } from '@nex-nix/nix';
import { call } from '../call.ts';
import type { ChunkId } from '../chunk-id.ts';
import { decodeEntries, decodeEntry } from '../entry.ts';
import type { JetStream } from '../jetstream.ts';
import { encodePaths, SUBJECTS } from '../protocol.ts';
import { sendChunks } from '../push.ts';
import { CHECKS_PER_REQUEST } from './damage.ts';
import { check } from './check.ts';

/**
 * Brings lost chunks of a path back from a source that has the path with the same content: cut in the same way, its NAR
 * gives the same chunks.
 * @returns the chunks that are whole now.
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
  // What is stored was cut by the same rule, but not of necessity normalised.
  const normalise = listed.manifest.mentions !== undefined;
  // References say what is normalised: those that the cache has count.
  const { references } = listed.info;
  let damaged = new Set(chunks);
  // The second time all of them: a service may not have heard yet that they are lost.
  for (const evenIfPresent of [false, true]) {
    await sendChunks(jetstream, { source, info: { ...info, references } }, { signal, normalise, evenIfPresent });
    damaged = await damagedOf(jetstream, chunks, signal);
    if (damaged.size === 0) break;
  }
  return chunks.filter((chunk) => !damaged.has(chunk));
}

async function damagedOf(
  jetstream: JetStream,
  chunks: readonly ChunkId[],
  signal: AbortSignal | undefined,
): Promise<Set<ChunkId>> {
  const damaged = new Set<ChunkId>();
  for (let at = 0; at < chunks.length; at += CHECKS_PER_REQUEST) {
    const page = chunks.slice(at, at + CHECKS_PER_REQUEST);
    for (const { chunk } of await check(jetstream, { chunks: page }, signal)) damaged.add(chunk);
  }
  return damaged;
}
