import { countPieces } from '@nex-nix/nexlet';
import type { LogId } from '@nex-nix/protocol';
import type { LogEntry, LogPosition } from '@nex-nix/sandbox';

export const START_OF_LOGS: LogPosition = { stdout: 0, stderr: 0 };

/** Of each stream the last piece that is known to be published, if any. */
export type Published = Partial<Record<LogEntry['stream'], LogId>>;

/** How a line is to be published. */
interface LineOptions {
  /** So many of its pieces are out already. */
  readonly piecesOut: number;
  /** To be called when the server has it. */
  readonly onConfirmed: () => void;
}

export interface LogSink {
  /** False when the line is not taken: too much waits for the server. */
  publish: (entry: LogEntry, options: LineOptions) => boolean;
  /** Resolves when the server has everything published so far; with false when nobody waits for that any more. */
  delivered: () => Promise<boolean>;
  /** Writes down, at once, that everything before `position` was published. Must not throw. */
  save: (position: LogPosition) => void;
}

/**
 * Publishes the lines of a sandbox until it has ended or is let go of. Their position is saved as soon as the server has
 * them, never before: whoever goes on from it misses no line. Of the lines that were there before, those in
 * `published` and before them are left out.
 */
export async function followLogs(
  entries: AsyncIterable<LogEntry>,
  sink: LogSink,
  published: Published = {},
): Promise<void> {
  using saved = new SavedPosition(sink);
  let any = false;
  for await (const entry of entries) {
    const { position } = entry;
    const rest = withoutPublished(entry, published[entry.stream]);
    if (rest !== undefined) {
      any = true;
      const options = { piecesOut: rest.piecesOut, onConfirmed: () => saved.moveTo(position) };
      while (!sink.publish(shownFor(rest.entry), options)) if (!(await sink.delivered())) return;
    } else if (!any) saved.moveTo(position);
  }
  await sink.delivered();
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

/**
 * What of an entry is still to be published; undefined when nothing is. What was printed after reading began is not
 * published yet, whatever anybody says: who may publish log messages could else hide what is to come.
 */
function withoutPublished(entry: LogEntry, last?: LogId): { entry: LogEntry; piecesOut: number } | undefined {
  const { stream, position, lost } = entry;
  const beyond = last === undefined || entry.time !== undefined ? Infinity : position[stream] - last.position;
  if (beyond < 0) return undefined;
  if (lost !== undefined) {
    return beyond === 0 ? undefined : { entry: { ...entry, lost: Math.min(lost, beyond) }, piecesOut: 0 };
  }
  const piecesOut = beyond === 0 && last !== undefined ? last.piece + 1 : 0;
  return piecesOut < countPieces(entry.line) ? { entry, piecesOut } : undefined;
}

/** What is published in place of output that is gone. */
function shownFor(entry: LogEntry): LogEntry {
  if (entry.lost === undefined) return entry;
  const text = `nex: ${entry.lost} bytes of ${entry.stream} were dropped: more was printed than is kept for a reader`;
  return { ...entry, stream: 'stderr', line: Buffer.from(text) };
}

/** Saves the last position that it was moved to, once for all lines of a batch: before the event loop goes on. */
class SavedPosition implements Disposable {
  readonly #sink: LogSink;
  #unsaved: LogPosition | undefined;
  #over = false;

  constructor(sink: LogSink) {
    this.#sink = sink;
  }

  moveTo(position: LogPosition): void {
    if (this.#over) return;
    if (this.#unsaved === undefined) queueMicrotask(() => this.#save());
    this.#unsaved = position;
  }

  /** What is confirmed after that is not saved. */
  [Symbol.dispose](): void {
    this.#over = true;
    this.#save();
  }

  #save(): void {
    if (this.#unsaved !== undefined) this.#sink.save(this.#unsaved);
    this.#unsaved = undefined;
  }
}
