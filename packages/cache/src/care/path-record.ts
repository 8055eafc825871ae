import type { NarInfo, StorePath } from '@nex-nix/nix';
import {
  decodeEntries,
  type DecodedEntry,
  decodeEntry,
  encodeEntries,
  type Entry,
  readNarInfo,
} from '../manifests/entry.ts';
import { CacheError } from '../errors.ts';
import type { JetStream, Task } from '../jetstream/jetstream.ts';
import {
  KV_OPERATION_HEADER,
  lastToken,
  NARINFO_STREAM,
  NARINFO_SUBJECTS,
  narInfoSubject,
} from '../jetstream/layout.ts';
import { leaderMessage, type LeaderMessage, leaderMessages, replaceMessage } from './leader.ts';

/**
 * What the subject of a narinfo can hold, one at a time and replaced by compare-and-set:
 *
 * - `listed`: the narinfo. Readers see nothing else; they take the others for deleted keys.
 * - `claimed`: somebody is about to list the path. Holds the entries that they intend to list.
 * - `removed`: the path was listed. Holds its narinfo, and keeps its content for those who are still fetching it.
 * - `empty`: a deleted key.
 */
export type PathRecord = ListedRecord | RemovedRecord | ClaimRecord | EmptyRecord | InvalidRecord;

interface StoredRecord {
  /** Hash part of the path. */
  readonly key: string;
  readonly seq: number;
  /** When it was stored, in ms since 1970, by the clock of the server. */
  readonly time: number;
}

export interface ListedRecord extends StoredRecord {
  readonly state: 'listed';
  readonly text: string;
  readonly info: NarInfo;
}

export interface RemovedRecord extends StoredRecord {
  readonly state: 'removed';
  readonly text: string;
  readonly info: NarInfo;
}

interface ClaimRecord extends StoredRecord {
  readonly state: 'claimed';
  readonly entries: readonly Entry[];
  readonly decoded: readonly DecodedEntry[];
}

interface EmptyRecord extends StoredRecord {
  readonly state: 'empty';
}

/** A narinfo, or a claim, that cannot be read. */
interface InvalidRecord extends StoredRecord {
  readonly state: 'invalid';
  readonly error: CacheError;
}

/** Header that tells claims and removed paths from deleted keys: `claimed` or `removed`. */
const STATE_HEADER = 'Nix-State';
const REGION = { stream: NARINFO_STREAM, subjects: NARINFO_SUBJECTS };

/** The record of a path, or undefined when there is none. */
export async function pathRecord(jetstream: JetStream, path: StorePath, task: Task): Promise<PathRecord | undefined> {
  const where = { stream: NARINFO_STREAM, last_by_subj: narInfoSubject(path) };
  const message = await leaderMessage(jetstream, where, task);
  return message === undefined ? undefined : decodeRecord(message);
}

/** The records stored at the sequence `from` and later, as `leaderMessages` reads them. */
export async function* pathRecords(
  jetstream: JetStream,
  options: Task & { from: number },
): AsyncGenerator<PathRecord, void, undefined> {
  for await (const message of leaderMessages(jetstream, REGION, options)) yield decodeRecord(message);
}

/** @returns the sequence of the claim, or undefined when the record was not the one of sequence `previous` any more. */
export async function storeClaim(
  jetstream: JetStream,
  { path, entries }: { path: StorePath; entries: readonly Entry[] },
  options: Task & { previous: number },
): Promise<number | undefined> {
  const headers = { [KV_OPERATION_HEADER]: 'DEL', [STATE_HEADER]: 'claimed' };
  return replaceMessage(jetstream, { subject: narInfoSubject(path), body: encodeEntries(entries), headers }, options);
}

/** Makes a listed path a removed one; @returns as {@link storeClaim} does. */
export async function storeRemoval(
  jetstream: JetStream,
  { subject, text }: { subject: string; text: string },
  options: Task & { previous: number },
): Promise<number | undefined> {
  const headers = { [KV_OPERATION_HEADER]: 'DEL', [STATE_HEADER]: 'removed' };
  return replaceMessage(jetstream, { subject, body: text, headers }, options);
}

/** Reads a record. */
export function decodeRecord({ subject, data, headers, seq, time }: LeaderMessage): PathRecord {
  const key = lastToken(subject);
  const common = { key, seq, time };
  const state = headers.get(STATE_HEADER);
  try {
    if (state === 'claimed') {
      const entries = decodeEntries(data);
      return { ...common, state, entries, decoded: entries.map((entry) => decodeEntry(entry, key)) };
    }
    if (state !== 'removed' && headers.has(KV_OPERATION_HEADER)) return { ...common, state: 'empty' };
    const text = Buffer.from(data).toString();
    return { ...common, state: state === 'removed' ? state : 'listed', text, info: readNarInfo(text, key) };
  } catch (error) {
    if (error instanceof CacheError) return { ...common, state: 'invalid', error };
    throw error;
  }
}
