import type { LogEntry, LogPosition } from '@nex-nix/sandbox';

/**
 * Time between two writings of a position, in milliseconds: so much is published again after a kill, under the same ids.
 */
const SAVE_INTERVAL = 250;

export const START_OF_LOGS: LogPosition = { stdout: 0, stderr: 0 };

export interface LogSink {
  /** False when the line is not taken: too much waits for the server. */
  publish: (entry: LogEntry) => boolean;
  /** Resolves when the server has everything published so far; with false when nobody waits for that any more. */
  delivered: () => Promise<boolean>;
  /** Writes down that everything before `position` was published. Must not reject. */
  save: (position: LogPosition) => Promise<void>;
}

/**
 * Publishes the lines of a sandbox, of which `entries` begin at a position, until it has ended or is let go of. The position is saved at
 * the beginning, at the end, and soon after the server has got a line, never before: whoever goes on from it misses no
 * line, and repeats none unless this process was killed within the last moment: that is known by the ids of the messages.
 */
export async function followLogs(entries: AsyncIterable<LogEntry>, from: LogPosition, sink: LogSink): Promise<void> {
  await using position = new SavedPosition(sink);
  // Lines do not wait for it: whoever goes on without any position begins at the same place.
  position.moveNow(from);
  for await (const entry of entries) {
    const shown = entry.lost === undefined ? entry : lossNotice(entry, entry.lost);
    while (!sink.publish(shown)) if (!(await sink.delivered())) return;
    position.moveTo(entry.position);
  }
}

/** The same entries, the first of which is asked for at once: what reading needs is open before there is a line. */
export function askedEarly(entries: AsyncIterable<LogEntry>): AsyncIterable<LogEntry> {
  const iterator = entries[Symbol.asyncIterator]();
  const first = iterator.next();
  // Whoever reads them is told; nobody may.
  first.catch(() => undefined);
  return {
    async *[Symbol.asyncIterator]() {
      try {
        for (let entry = await first; entry.done !== true; entry = await iterator.next()) yield entry.value;
      } finally {
        await iterator.return?.();
      }
    },
  };
}

/** What is published in place of output that is gone. */
function lossNotice(entry: LogEntry, bytes: number): LogEntry {
  const text = `nex: ${bytes} bytes of ${entry.stream} were dropped: more was printed than is kept for a reader`;
  return { ...entry, stream: 'stderr', line: Buffer.from(text) };
}

/** A position that is saved at most once an interval, and when it is disposed. */
class SavedPosition implements AsyncDisposable {
  readonly #sink: LogSink;
  #unsaved: LogPosition | undefined;
  #timer: NodeJS.Timeout | undefined;
  #saving: Promise<void> | undefined;

  constructor(sink: LogSink) {
    this.#sink = sink;
  }

  /** As {@link moveTo}, saved at once. */
  moveNow(position: LogPosition): void {
    this.#saving = this.#sink.save(position).then(() => this.#next());
  }

  moveTo(position: LogPosition): void {
    this.#unsaved = position;
    this.#plan();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#saving;
    clearTimeout(this.#timer);
    await this.#save();
  }

  #plan(): void {
    if (this.#saving !== undefined) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#saving = this.#saveThenPlan();
    }, SAVE_INTERVAL);
  }

  async #saveThenPlan(): Promise<void> {
    await this.#save();
    this.#next();
  }

  #next(): void {
    this.#saving = undefined;
    if (this.#unsaved !== undefined) this.#plan();
  }

  async #save(): Promise<void> {
    const position = this.#unsaved;
    this.#unsaved = undefined;
    if (position !== undefined && (await this.#sink.delivered())) await this.#sink.save(position);
  }
}
