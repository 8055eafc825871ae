import { setTimeout as delay } from 'node:timers/promises';
import { abortable } from '../tasks/abortable.ts';
import { CacheError } from '../errors.ts';
import type { JetStream, Task } from '../jetstream/jetstream.ts';
import { CARE_STREAM, careSubject } from '../jetstream/layout.ts';
import { deleteItems, type Doomed } from './doomed.ts';
import { leaderMessage, replaceMessage } from './leader.ts';

/**
 * What is being deleted, for everybody to see.
 * - `idle`: nothing.
 * - `announced`: perhaps these. Whoever announced them still looks for claims on them.
 * - `deleting`: exactly these. Anybody may, and whoever wants to announce more must, bring that to its end first.
 */
interface Page {
  readonly state: 'idle' | 'announced' | 'deleting';
  readonly doomed: Doomed;
}

const NOTHING: Doomed = { paths: [], manifests: [], chunks: [] };
const SUBJECT = careSubject('journal');
const POLL_MS = 20;
/** How long a page may stay as it is before somebody else does what is to be done: its writer is gone, or very slow. */
const PATIENCE_MS = 5000;

/** The one page by which collections and commits keep out of each other's way. See docs/decisions/0010. */
export class Journal {
  readonly #jetstream: JetStream;

  constructor(jetstream: JetStream) {
    this.#jetstream = jetstream;
  }

  /**
   * Announces, has `recheck` strike out what has been claimed meanwhile, and deletes the rest.
   * @returns what was deleted; undefined when somebody else took the announcement away: then nothing was.
   */
  async delete(
    doomed: Doomed,
    recheck: () => Promise<Doomed>,
    signal: AbortSignal | undefined,
  ): Promise<Doomed | undefined> {
    const previous = await this.settled(() => true, signal);
    const announced = await this.#write({ state: 'announced', doomed }, previous, signal);
    if (announced === undefined) return undefined;
    const rest = await recheck();
    const deleting = await this.#write({ state: 'deleting', doomed: rest }, announced, signal);
    if (deleting === undefined) return undefined;
    await deleteItems(this.#jetstream, rest, signal);
    await this.#write({ state: 'idle', doomed: NOTHING }, deleting, signal);
    return rest;
  }

  /**
   * Waits until the page holds nothing that `concerns` the caller.
   * @returns the sequence of the page, 0 when there is none.
   */
  async settled(concerns: (doomed: Doomed) => boolean, signal: AbortSignal | undefined): Promise<number> {
    let since = performance.now();
    let seen = -1;
    for (;;) {
      const { page, seq } = await this.#read(signal);
      if (page.state === 'idle' || !concerns(page.doomed)) return seq;
      if (seq !== seen) since = performance.now();
      seen = seq;
      if (performance.now() - since > PATIENCE_MS) await this.#takeOver(page, seq, signal);
      else await abortable(delay(POLL_MS), signal);
    }
  }

  /** Brings to its end what somebody else has left. They cannot go on from `announced`, nor undo what is deleted. */
  async #takeOver({ state, doomed }: Page, seq: number, signal: AbortSignal | undefined): Promise<void> {
    if (state === 'deleting') await deleteItems(this.#jetstream, doomed, signal);
    await this.#write({ state: 'idle', doomed: NOTHING }, seq, signal);
  }

  async #write(page: Page, previous: number, signal: AbortSignal | undefined): Promise<number | undefined> {
    const message = { subject: SUBJECT, body: JSON.stringify(page) };
    return replaceMessage(this.#jetstream, message, { ...task(signal), previous });
  }

  async #read(signal: AbortSignal | undefined): Promise<{ page: Page; seq: number }> {
    const message = await leaderMessage(this.#jetstream, { stream: CARE_STREAM, last_by_subj: SUBJECT }, task(signal));
    if (message === undefined) return { page: { state: 'idle', doomed: NOTHING }, seq: 0 };
    try {
      return { page: JSON.parse(Buffer.from(message.data).toString()) as Page, seq: message.seq };
    } catch (cause) {
      throw new CacheError('CACHE_PROTOCOL', 'Cannot read the journal of deletions: it is no JSON', { cause });
    }
  }
}

function task(signal: AbortSignal | undefined): Task {
  return { action: 'keep the journal of deletions', signal };
}
