import { CacheError } from '../errors.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import { NARINFO_STREAM, NARINFO_SUBJECTS } from '../jetstream/layout.ts';
import { leaderMessage } from './leader.ts';
import { decodeRecord } from './path-record.ts';

/** A page of what is listed, as it travels. */
export interface PathPage {
  readonly paths: readonly { readonly narInfo: string; readonly pushedAt: number }[];
  /** Where the next page begins; absent after the last. */
  readonly next?: number;
}

const PAGE = 200;

/**
 * The listed paths from a place on, as JSON {@link PathPage}, in the order in which they were pushed.
 * @param cursor - the `next` of the page before, empty for the first.
 */
export async function pathPage(jetstream: JetStream, cursor: string, signal: AbortSignal): Promise<string> {
  let seq = cursor === '' ? 1 : Number(cursor);
  if (!Number.isSafeInteger(seq) || seq < 1) {
    throw new CacheError('CACHE_PROTOCOL', 'Cannot list paths: the request does not say where to begin');
  }
  const paths: { narInfo: string; pushedAt: number }[] = [];
  for (let read = 0; read < PAGE; read++) {
    const where = { stream: NARINFO_STREAM, seq, next_by_subj: NARINFO_SUBJECTS };
    const message = await leaderMessage(jetstream, where, { action: 'list the paths of the cache', signal });
    if (message === undefined) return JSON.stringify({ paths } satisfies PathPage);
    const record = decodeRecord(message);
    if (record.state === 'listed') paths.push({ narInfo: record.text, pushedAt: record.time });
    seq = message.seq + 1;
  }
  return JSON.stringify({ paths, next: seq } satisfies PathPage);
}
