import type { StorePath } from '@nex-nix/nix';
import { call } from '../protocol/call.ts';
import type { ChunkId } from '../chunks/chunk-id.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import { decodeJson, SUBJECTS } from '../protocol/protocol.ts';
import type { DamagedChunk } from './damage.ts';

/**
 * Has the service check chunks.
 * @param request.path - a path that has them, whose holders are told what is damaged.
 * @param request.waitMs - how long to wait until they have brought it back.
 * @returns what is damaged still.
 */
export async function check(
  jetstream: JetStream,
  request: { chunks: readonly ChunkId[]; path?: StorePath; waitMs?: number },
  signal: AbortSignal | undefined,
): Promise<DamagedChunk[]> {
  const question = { subject: SUBJECTS.check, body: JSON.stringify(request) };
  const answer = await call(jetstream, question, { action: 'have chunks checked', signal });
  return decodeJson(answer, 'chunks') as DamagedChunk[];
}
