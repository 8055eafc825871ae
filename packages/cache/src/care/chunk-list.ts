import { abortable } from '../tasks/abortable.ts';
import { type ChunkId, isChunkId } from '../chunks/chunk-id.ts';
import { attempt, type JetStream } from '../jetstream/jetstream.ts';
import { CHUNK_STREAM, CHUNK_SUBJECTS, lastToken } from '../jetstream/layout.ts';
import { leaderMessage } from './leader.ts';

/** A stored chunk without its content. */
export interface StoredChunk {
  readonly seq: number;
  /** Bytes stored, headers aside. */
  readonly size: number;
  /** When it was stored, in ms since 1970. */
  readonly time: number;
}

/** Header with the length of the body that a consumer of headers alone leaves out. */
const SIZE_HEADER = 'Nats-Msg-Size';

/** Chunks asked for at once. */
const BATCH = 20_000;
/** A server that has sent nothing for so long has no more. */
const IDLE_MS = 2000;

/** All chunks that are stored when it begins. */
export async function storedChunks(
  jetstream: JetStream,
  signal: AbortSignal | undefined,
): Promise<Map<ChunkId, StoredChunk>> {
  const { nc, js, jsm } = jetstream;
  const chunks = new Map<ChunkId, StoredChunk>();
  const task = { action: 'list the stored chunks', signal };
  const { state } = await attempt(nc, task, () => jsm.streams.info(CHUNK_STREAM));
  if (state.messages === 0) return chunks;
  const last = await leaderMessage(jetstream, { stream: CHUNK_STREAM, last_by_subj: CHUNK_SUBJECTS }, task);
  const consumer = await attempt(nc, task, () => js.consumers.get(CHUNK_STREAM, { headers_only: true }));
  // How many are pending is not to be relied on: after deletions, nats-server 2.9 counts some that are gone. Nor is it that the
  // last one comes, which may be deleted meanwhile.
  for (let seen = 0, isEnd = false; !isEnd && seen < (last?.seq ?? Infinity);) {
    const messages = await attempt(nc, task, () => consumer.fetch({ max_messages: BATCH, expires: IDLE_MS }));
    const stop = () => messages.stop();
    signal?.addEventListener('abort', stop, { once: true });
    isEnd = true;
    try {
      for await (const { subject, seq, headers, info } of messages) {
        isEnd = false;
        seen = seq;
        const id = lastToken(subject);
        const time = Math.floor(info.timestampNanos / 1e6);
        if (isChunkId(id)) chunks.set(id, { seq, size: Number(headers?.get(SIZE_HEADER) ?? 0), time });
        if (seq >= (last?.seq ?? Infinity)) break;
      }
    } finally {
      signal?.removeEventListener('abort', stop);
      await abortable(messages.close(), signal);
    }
    signal?.throwIfAborted();
  }
  return chunks;
}
