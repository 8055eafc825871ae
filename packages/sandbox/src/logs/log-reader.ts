import { type FileHandle, open } from 'node:fs/promises';
import { abortable } from '../abortable.ts';
import { hasErrno } from '../file-errors.ts';
import type { LogEntry, LogOptions, LogPosition } from '../sandbox.ts';

/** Longer lines are handed out in pieces of this size. */
export const MAX_LINE_BYTES = 64 * 1024;

const NEWLINE = 0x0a;

type StreamName = LogEntry['stream'];

/** Lines of one stream's file from a position on; remembers how far it got. Memory: one line and one read. */
class LogReader implements AsyncDisposable {
  readonly #path: string;
  /** Offset of the first byte that no line handed out so far contains. */
  #position: number;
  #pending: Buffer = Buffer.alloc(0);
  #handle: FileHandle | undefined;
  /** Length of the file at the first read: what lies beyond is new. */
  #oldBytes: number | undefined;

  constructor(path: string, position: number) {
    this.#path = path;
    this.#position = position;
  }

  /** The lines that the next stretch of the file completes, or undefined when there is nothing more now. */
  async read(): Promise<Line[] | undefined> {
    this.#handle ??= await openOrUndefined(this.#path);
    this.#oldBytes ??= (await this.#handle?.stat())?.size ?? 0;
    const buffer = Buffer.allocUnsafe(MAX_LINE_BYTES);
    const offset = this.#position + this.#pending.length;
    const result = await this.#handle?.read(buffer, 0, buffer.length, offset);
    if (result === undefined || result.bytesRead === 0) return undefined;
    return this.#split(Buffer.concat([this.#pending, buffer.subarray(0, result.bytesRead)]));
  }

  /** The unfinished last line; for when nothing more will come. */
  rest(): Line | undefined {
    if (this.#pending.length === 0) return undefined;
    const line = this.#take(this.#pending, this.#pending.length);
    this.#pending = Buffer.alloc(0);
    return line;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle?.close();
    this.#handle = undefined;
  }

  #split(data: Buffer): Line[] {
    const lines: Line[] = [];
    for (;;) {
      const newline = data.indexOf(NEWLINE);
      const end = newline === -1 ? data.length : newline;
      if (end > MAX_LINE_BYTES) {
        lines.push(this.#take(data, MAX_LINE_BYTES));
        data = data.subarray(MAX_LINE_BYTES);
      } else if (newline !== -1) {
        lines.push(this.#take(data, end, 1));
        data = data.subarray(end + 1);
      } else {
        this.#pending = data;
        return lines;
      }
    }
  }

  #take(data: Buffer, length: number, newline: 0 | 1 = 0): Line {
    this.#position += length + newline;
    // A copy: whoever keeps one line must not keep the whole read with it.
    const line = new Uint8Array(data.subarray(0, length));
    return { line, end: this.#position, isNew: this.#position > (this.#oldBytes ?? 0) };
  }
}

interface Line {
  line: Uint8Array;
  /** Offset of what follows. */
  end: number;
  /** Written after reading began. */
  isNew: boolean;
}

/** The parts of a sandbox that reading its logs depends on. */
export interface LogSource {
  path(stream: StreamName): string;
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
  await using stdout = new LogReader(source.path('stdout'), from.stdout);
  await using stderr = new LogReader(source.path('stderr'), from.stderr);
  const streams = [
    ['stdout', stdout],
    ['stderr', stderr],
  ] as const;
  const position = { ...from };
  const entry = (stream: StreamName, { line, end, isNew }: Line): LogEntry => {
    position[stream] = end;
    return { stream, line, position: { ...position }, ...(isNew ? { time: new Date() } : {}) };
  };
  while (!source.released()) {
    const changed = source.changed();
    // Asked before reading: what is complete now is read to its end below.
    const ended = source.ended();
    let grown = false;
    for (const [stream, reader] of streams) {
      const lines = await reader.read();
      grown ||= lines !== undefined;
      for (const line of lines ?? []) {
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

/** The file appears when the sandbox starts. */
async function openOrUndefined(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
