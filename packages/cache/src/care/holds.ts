import { createHash } from 'node:crypto';
import type { NarHash } from '@nex-nix/nix';
import { call } from '../protocol/call.ts';
import type { ChunkId } from '../chunks/chunk-id.ts';
import type { JetStream, Task } from '../jetstream/jetstream.ts';
import { CARE_STREAM, careSubject, CHUNK_STREAM, chunkSubject, KV_OPERATION_HEADER } from '../jetstream/layout.ts';
import { decodeManifest, encodeManifest, type Manifest } from '../manifests/manifest.ts';
import { decodeJson, SUBJECTS } from '../protocol/protocol.ts';
import { mapOrdered } from '../tasks/map-ordered.ts';
import { isDoomed } from './doomed.ts';
import { Journal } from './journal.ts';
import { leaderMessage, leaderMessages, replaceMessage } from './leader.ts';

/**
 * A manifest whose chunks are to stay although no record of a path says so yet: of a NAR that came over HTTP and waits for its
 * narinfo, or of a listed path that is pushed again in other pieces. A claim without a path.
 */
export interface Hold {
  readonly seq: number;
  /** When it was stored, in ms since 1970, by the clock of the server. */
  readonly time: number;
  readonly narHash: NarHash;
  readonly chunks: readonly ChunkId[];
  /** The encoded manifest. */
  readonly data: Uint8Array;
}

const PREFIX = careSubject('held');
/** Chunks looked for at once. */
const WINDOW = 8;

/** Holds an encoded manifest from now on. The same one again is held longer. */
export async function storeHold(jetstream: JetStream, manifest: Uint8Array, task: Task): Promise<void> {
  const subject = `${PREFIX}.${createHash('sha256').update(manifest).digest('base64url')}`;
  for (;;) {
    const found = await leaderMessage(jetstream, { stream: CARE_STREAM, last_by_subj: subject }, task);
    const options = { ...task, previous: found?.seq ?? 0 };
    if ((await replaceMessage(jetstream, { subject, body: manifest }, options)) !== undefined) return;
  }
}

/** The holds stored at the sequence `from` and later. */
export async function* readHolds(jetstream: JetStream, options: Task & { from: number }): AsyncGenerator<Hold, void> {
  const region = { stream: CARE_STREAM, subjects: `${PREFIX}.>` };
  for await (const { headers, data, seq, time } of leaderMessages(jetstream, region, options)) {
    if (headers.has(KV_OPERATION_HEADER)) continue;
    const { narHash, chunks } = decodeManifest(data, 'a held upload');
    yield { seq, time, narHash, chunks: chunks.map(({ id }) => id), data };
  }
}

/**
 * Holds a manifest for somebody else: what the service does for {@link hold}. A collection that has not seen it has announced
 * before what it deletes, and so is waited for.
 * @returns the chunks that are not there, because a collection was faster.
 */
export async function holdManifest(
  jetstream: JetStream,
  manifest: Uint8Array,
  { has, signal }: { has: (id: ChunkId) => boolean; signal: AbortSignal },
): Promise<ChunkId[]> {
  const chunks = new Set(decodeManifest(manifest, 'an upload').chunks.map(({ id }) => id));
  await storeHold(jetstream, manifest, { action: 'hold what was uploaded', signal });
  const needed = { paths: new Set<string>(), manifests: new Set<string>(), chunks };
  await new Journal(jetstream).settled((doomed) => isDoomed(doomed, needed), signal);
  const look = async (id: ChunkId, inner: AbortSignal) => {
    const where = { stream: CHUNK_STREAM, last_by_subj: chunkSubject(id) };
    const task = { action: `look for chunk "${id}"`, signal: inner };
    return { id, isThere: has(id) || (await leaderMessage(jetstream, where, task)) !== undefined };
  };
  const missing: ChunkId[] = [];
  for await (const { id, isThere } of mapOrdered(chunks, look, { window: WINDOW, signal })) {
    if (!isThere) missing.push(id);
  }
  return missing;
}

/**
 * Has the service hold a manifest whose chunks were sent, until it is listed, for an hour at most.
 * @returns whether all chunks are there; otherwise they are to be sent again.
 */
export async function hold(jetstream: JetStream, manifest: Manifest, task: Task): Promise<boolean> {
  const question = { subject: SUBJECTS.hold, body: encodeManifest(manifest) };
  return (decodeJson(await call(jetstream, question, task), 'an upload') as ChunkId[]).length === 0;
}
