import type { FileHandle } from 'node:fs/promises';
import { abortable } from '../abortable.ts';
import type { LogEntry, LogOptions, LogPosition } from '../sandbox.ts';
import { LineSplitter, type Line, MAX_LINE_BYTES } from './line-splitter.ts';
import { LogSegments, type StreamName } from './log-segments.ts';
import { ReaderMark } from './reader-mark.ts';

/** What the next stretch of a stream has. */
interface Stretch {
  lines: readonly Line[];
  /** Bytes before them that are gone. */
  lost: number;
}

/** Lines of one stream from a position on; remembers how far it got. Memory: one line and one read. */
class LogReader implements AsyncDisposable {
  readonly #segments: LogSegments;
  readonly #splitter: LineSplitter;
  readonly #mark: ReaderMark | undefined;
  /** The segment that is being read. */
  #current: { start: number; handle: FileHandle } | undefined;
  /** Length of the stream at the first read: what lies beyond is new. */
  #oldBytes: number | undefined;

  constructor(folder: string, stream: StreamName, { position, follow }: { position: number; follow: boolean }) {
    this.#segments = new LogSegments(folder, stream);
    this.#splitter = new LineSplitter(position);
    this.#mark = follow ? new ReaderMark(folder, stream) : undefined;
  }

  /** What comes next, or undefined when there is nothing more now. */
  async read(): Promise<Stretch | undefined> {
    this.#oldBytes ??= await this.#segments.end();
    for (;;) {
      const lost = this.#current === undefined ? await this.#enter() : 0;
      const { start, handle } = this.#current ?? {};
      if (start === undefined || handle === undefined) return undefined;
      const at = this.#splitter.next - start;
      // Mostly nothing is new, and a buffer for that would be most of what waiting for many programs costs.
      const length = Math.min(MAX_LINE_BYTES, Math.max(0, (await handle.stat()).size - at));
      const buffer = Buffer.allocUnsafe(length);
      const { bytesRead } = length === 0 ? { bytesRead: 0 } : await handle.read(buffer, 0, length, at);
      if (bytesRead > 0 || lost > 0) return { lost, lines: this.#splitter.push(buffer.subarray(0, bytesRead)) };
      if (!(await this.#leave(start, handle))) return undefined;
    }
  }

  /** Whether a line that ends there was written after reading began. */
  isNew({ end }: Line): boolean {
    return end > (this.#oldBytes ?? 0);
  }

  /** The unfinished last line; for when nothing more will come. */
  rest(): Line | undefined {
    return this.#splitter.rest();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#mark?.[Symbol.dispose]();
    await this.#current?.handle.close();
    this.#current = undefined;
  }

  /** Opens the segment where it is to go on; returns how many bytes before that are gone. */
  async #enter(): Promise<number> {
    this.#current = await this.#segments.openAt(this.#splitter.next);
    if (this.#current === undefined) return 0;
    this.#mark?.moveTo(this.#current.start);
    const { start } = this.#current;
    return start > this.#splitter.next ? this.#splitter.skipTo(start) : 0;
  }

  /** At the end of a segment: goes on to the next. False when there is none yet. */
  async #leave(start: number, handle: FileHandle): Promise<boolean> {
    const end = this.#splitter.next;
    const next = end > start ? await this.#segments.open(end) : undefined;
    if (next !== undefined) {
      this.#current = { start: end, handle: next };
      this.#mark?.moveTo(end);
    } else if ((await handle.stat()).nlink === 0) {
      // Dropped, and maybe the next one too.
      this.#current = undefined;
    } else {
      return false;
    }
    await handle.close();
    return true;
  }
}

/** The parts of a sandbox that reading its logs depends on. */
export interface LogSource {
  /** Where the files are, see {@link LogSegments}. */
  folder: string;
  /** Whether the files are complete. */
  ended(): boolean;
  /** Whether followers are to go. */
  released(): boolean;
  /** Resolves when a file may have grown, or one of the above changed. */
  changed(): Promise<void>;
}

/** Lines of both streams. With `follow` it goes on until the source has ended, is released, or the signal aborts. */
export async function* readLogs(
  source: LogSource,
  from: LogPosition,
  { signal, follow = false }: LogOptions,
): AsyncGenerator<LogEntry> {
  signal?.throwIfAborted();
  await using stdout = new LogReader(source.folder, 'stdout', { position: from.stdout, follow });
  await using stderr = new LogReader(source.folder, 'stderr', { position: from.stderr, follow });
  const streams = [
    ['stdout', stdout],
    ['stderr', stderr],
  ] as const;
  const position = { ...from };
  const entry = (stream: StreamName, line: Line): LogEntry => {
    position[stream] = line.end;
    const time = (stream === 'stdout' ? stdout : stderr).isNew(line) ? { time: new Date() } : {};
    return { stream, line: line.line, position: { ...position }, ...time };
  };
  const gap = (stream: StreamName, lost: number): LogEntry => {
    position[stream] += lost;
    return { stream, line: new Uint8Array(), lost, position: { ...position } };
  };
  while (!source.released()) {
    const changed = source.changed();
    // Asked before reading: what is complete now is read to its end below.
    const ended = source.ended();
    let grown = false;
    for (const [stream, reader] of streams) {
      const stretch = await reader.read();
      grown ||= stretch !== undefined;
      const { lines = [], lost = 0 } = stretch ?? {};
      if (lost > 0) yield gap(stream, lost);
      for (const line of lines) {
        yield entry(stream, line);
        signal?.throwIfAborted();
      }
    }
    if (grown) continue;
    if (ended) {
      for (const [stream, reader] of streams) {
        const line = reader.rest();
        if (line !== undefined) yield entry(stream, line);
      }
    }
    if (ended || !follow) return;
    await abortable(changed, signal);
  }
}
