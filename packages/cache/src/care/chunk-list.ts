import { abortable } from '../abortable.ts';
import { type ChunkId, isChunkId } from '../chunk-id.ts';
import { attempt, type JetStream } from '../jetstream.ts';
import { CHUNK_STREAM, lastToken } from '../layout.ts';

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

/** All chunks that are stored when it begins. */
export async function storedChunks(
  { nc, js, jsm }: JetStream,
  signal: AbortSignal | undefined,
): Promise<Map<ChunkId, StoredChunk>> {
  const chunks = new Map<ChunkId, StoredChunk>();
  const task = { action: 'list the stored chunks', signal };
  const { state } = await attempt(nc, task, () => jsm.streams.info(CHUNK_STREAM));
  if (state.messages === 0) return chunks;
  const consumer = await attempt(nc, task, () => js.consumers.get(CHUNK_STREAM, { headers_only: true }));
  const messages = await attempt(nc, task, () => consumer.consume());
  const stop = () => messages.stop();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    for await (const { subject, seq, headers, info } of messages) {
      const id = lastToken(subject);
      const time = Math.floor(info.timestampNanos / 1e6);
      if (isChunkId(id)) chunks.set(id, { seq, size: Number(headers?.get(SIZE_HEADER) ?? 0), time });
      if (seq >= state.last_seq || info.pending === 0) break;
    }
  } finally {
    signal?.removeEventListener('abort', stop);
    await abortable(messages.close(), signal);
  }
  signal?.throwIfAborted();
  return chunks;
}
