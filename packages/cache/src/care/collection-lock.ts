import { setTimeout as delay } from 'node:timers/promises';
import { abortable } from '../tasks/abortable.ts';
import { CacheError } from '../errors.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import { CARE_STREAM, careSubject, KV_OPERATION_HEADER } from '../jetstream/layout.ts';
import { deleteMessage, leaderMessage, type LeaderMessage, replaceMessage } from './leader.ts';

/** How far a collection is. */
export interface CollectionProgress {
  readonly phase: 'reading' | 'removing paths' | 'deleting content';
  /** Of the phase: paths, or manifests and chunks. 0 of 0 while that is not known. */
  readonly done: number;
  readonly total: number;
}

const SUBJECT = careSubject('collector');
const BEAT_MS = 1000;
/** A collector that was silent for so long is gone. */
const SILENCE_MS = 5000;
const POLL_MS = 200;
const TASK = { action: 'find out whether a collection is under way' };

/**
 * Keeps two collections from doing the same work at once. Nothing depends on it but time: that they do not harm each other
 * is what the journal is for.
 */
export class CollectionLock implements AsyncDisposable {
  /** When it was taken, by the clock of the server, in ms since 1970. */
  readonly time: number;
  progress: CollectionProgress = { phase: 'reading', done: 0, total: 0 };

  readonly #jetstream: JetStream;
  #seq: number;
  #beating: Promise<void> = Promise.resolve();
  readonly #timer: NodeJS.Timeout;

  /** @throws {@link CacheError} `CACHE_COLLECTION_RUNNING` */
  static async take(jetstream: JetStream, signal: AbortSignal | undefined): Promise<CollectionLock> {
    const task = { ...TASK, signal };
    const previous = await awaitSilence(jetstream, signal);
    const body = JSON.stringify({ progress: { phase: 'reading', done: 0, total: 0 } });
    const seq = await replaceMessage(jetstream, { subject: SUBJECT, body }, { ...task, previous });
    const message = seq === undefined ? undefined : await lastBeat(jetstream, signal);
    if (message === undefined || message.seq !== seq) throw running();
    return new CollectionLock(jetstream, message);
  }

  private constructor(jetstream: JetStream, { seq, time }: LeaderMessage) {
    this.#jetstream = jetstream;
    this.#seq = seq;
    this.time = time;
    this.#timer = setInterval(() => {
      this.#beating = this.#beating.then(() => this.#beat());
    }, BEAT_MS);
    this.#timer.unref();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#beating;
    await deleteMessage(this.#jetstream, { stream: CARE_STREAM, seq: this.#seq }, { action: 'end a collection' });
  }

  async #beat(): Promise<void> {
    const body = JSON.stringify({ progress: this.progress });
    const task = { action: 'tell how far a collection is', previous: this.#seq };
    try {
      this.#seq = (await replaceMessage(this.#jetstream, { subject: SUBJECT, body }, task)) ?? this.#seq;
    } catch (error) {
      // Without NATS nobody can be told; the collection itself fails, or goes on when NATS is back.
      if (!(error instanceof CacheError)) throw error;
    }
  }
}

/** How far the collection is that is under way, or undefined when none is. */
export async function collectionProgress(
  jetstream: JetStream,
  signal: AbortSignal | undefined,
): Promise<CollectionProgress | undefined> {
  const beat = await lastBeat(jetstream, signal);
  if (beat === undefined) return undefined;
  return (JSON.parse(Buffer.from(beat.data).toString()) as { progress: CollectionProgress }).progress;
}

/** @returns the sequence of the last sign of life of a collector that is gone, 0 when there is none. */
async function awaitSilence(jetstream: JetStream, signal: AbortSignal | undefined): Promise<number> {
  const first = await lastBeat(jetstream, signal);
  if (first === undefined) return 0;
  for (const start = performance.now(); performance.now() - start < SILENCE_MS;) {
    await abortable(delay(POLL_MS), signal);
    const now = await lastBeat(jetstream, signal);
    if (now === undefined) return 0;
    if (now.seq !== first.seq) throw running();
  }
  return first.seq;
}

async function lastBeat(jetstream: JetStream, signal: AbortSignal | undefined): Promise<LeaderMessage | undefined> {
  const message = await leaderMessage(jetstream, { stream: CARE_STREAM, last_by_subj: SUBJECT }, { ...TASK, signal });
  return message?.headers.has(KV_OPERATION_HEADER) === true ? undefined : message;
}

function running(): CacheError {
  return new CacheError('CACHE_COLLECTION_RUNNING', 'Cannot collect garbage: another collection is under way', {
    hint: 'Wait until it is done; one at a time is enough',
  });
}
