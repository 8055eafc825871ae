import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { LogSegments, type StreamName } from '../logs/log-segments.ts';
import { sendSignal } from '../supervisor/process-identity.ts';
import { readOrEmpty } from '../sandbox-folder.ts';
import type { LogPosition } from '../sandbox.ts';

/** Segments that a stream has at most. */
const SEGMENTS = 4;

/** How long a reader may stay at one place before what it has not read is dropped. */
const READER_PATIENCE_MS = 5000;
const READER_LOOK_MS = 20;

/**
 * Writes what a program prints to the files that {@link LogSegments} reads: `<stream>.<n>` from byte n on, a quarter of
 * the allowed bytes each; the oldest go. What is on disk is all that there is to know: a process that is killed anywhere
 * leaves streams that go on where their files end.
 */
export class OutputLog implements AsyncDisposable {
  readonly #streams: Readonly<Record<StreamName, LogStream>>;

  private constructor(streams: Record<StreamName, LogStream>) {
    this.#streams = streams;
  }

  /** @param bytes That each stream may take on disk. */
  static async open(folder: string, bytes: number): Promise<OutputLog> {
    const size = Math.max(1, Math.floor(bytes / SEGMENTS));
    const [stdout, stderr] = await Promise.all([
      LogStream.open(folder, 'stdout', size),
      LogStream.open(folder, 'stderr', size),
    ]);
    return new OutputLog({ stdout, stderr });
  }

  /** Bytes that each stream has had so far. */
  get positions(): LogPosition {
    return { stdout: this.#streams.stdout.end, stderr: this.#streams.stderr.end };
  }

  /**
   * Writes bytes of a stream that begin at a position; those that it has already are left out. The position is at most the
   * stream's end.
   */
  async write(stream: StreamName, position: number, bytes: Uint8Array): Promise<void> {
    const log = this.#streams[stream];
    if (position > log.end) throw new RangeError(`Bytes ${log.end} to ${position} of ${stream} are missing`);
    await log.append(bytes.subarray(log.end - position));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(Object.values(this.#streams).map((stream) => stream[Symbol.asyncDispose]()));
  }
}

class LogStream implements AsyncDisposable {
  end: number;
  readonly #folder: string;
  readonly #name: StreamName;
  readonly #segmentBytes: number;
  /** Where the segments begin, the oldest first. */
  readonly #starts: number[];
  #handle: FileHandle;
  /** Where a reader was when it was waited for in vain. */
  #stuck: string | undefined;

  private constructor(
    place: { folder: string; name: StreamName; segmentBytes: number },
    state: { starts: number[]; end: number; handle: FileHandle },
  ) {
    this.#folder = place.folder;
    this.#name = place.name;
    this.#segmentBytes = place.segmentBytes;
    this.#starts = state.starts;
    this.#handle = state.handle;
    this.end = state.end;
  }

  static async open(folder: string, name: StreamName, segmentBytes: number): Promise<LogStream> {
    const segments = new LogSegments(folder, name);
    const starts = (await segments.all()).map(({ start }) => start);
    if (starts.length === 0) starts.push(0);
    const handle = await open(join(folder, `${name}.${starts.at(-1)}`), 'a', 0o600);
    const end = (starts.at(-1) ?? 0) + (await handle.stat()).size;
    return new LogStream({ folder, name, segmentBytes }, { starts, end, handle });
  }

  async append(bytes: Uint8Array): Promise<void> {
    for (let left = bytes; left.length > 0;) {
      const room = (this.#starts.at(-1) ?? 0) + this.#segmentBytes - this.end;
      if (room <= 0) {
        await this.#begin();
        continue;
      }
      const { bytesWritten } = await this.#handle.write(left, 0, Math.min(room, left.length));
      this.end += bytesWritten;
      left = left.subarray(bytesWritten);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }

  /** Goes on with the next segment. */
  async #begin(): Promise<void> {
    const next = await open(join(this.#folder, `${this.#name}.${this.end}`), 'a', 0o600);
    await this.#handle.close();
    this.#handle = next;
    this.#starts.push(this.end);
    while (this.#starts.length > SEGMENTS) {
      const [oldest, after = 0] = this.#starts;
      await this.#untilRead(after);
      await rm(join(this.#folder, `${this.#name}.${oldest}`), { force: true });
      this.#starts.shift();
    }
  }

  /** Waits for the reader that `<stream>.reader` names, if it is alive and gets on, to have read all before a place. */
  async #untilRead(place: number): Promise<void> {
    const deadline = Date.now() + READER_PATIENCE_MS;
    let at: string | undefined;
    while (Date.now() < deadline) {
      const mark = await readOrEmpty(join(this.#folder, `${this.#name}.reader`));
      const [reader, position] = mark.trim().split(/\s+/);
      at = position;
      if (reader === undefined || position === undefined || Number(position) >= place) return;
      if (position === this.#stuck || !sendSignal(Number(reader), 0)) return;
      await delay(READER_LOOK_MS);
    }
    this.#stuck = at;
  }
}
