import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../file-errors.ts';
import type { LogEntry } from '../sandbox.ts';

export type StreamName = LogEntry['stream'];

/** A file that holds a stream from one of its bytes on. */
export interface Segment {
  start: number;
  path: string;
}

/**
 * The files of one stream, as the supervisor writes them: `<stream>.<n>` begins with byte n of the stream and ends where
 * the next one begins; the oldest of them go. Supervisors of earlier versions write one file, `<stream>`.
 */
export class LogSegments {
  readonly #folder: string;
  readonly #stream: StreamName;

  constructor(folder: string, stream: StreamName) {
    this.#folder = folder;
    this.#stream = stream;
  }

  /** Those that are there, the oldest first. */
  async all(): Promise<Segment[]> {
    const segments: Segment[] = [];
    for (const name of await namesIn(this.#folder)) {
      const [, stream, start = '0'] = /^(stdout|stderr)(?:\.(\d+))?$/.exec(name) ?? [];
      if (stream === this.#stream) segments.push({ start: Number(start), path: join(this.#folder, name) });
    }
    return segments.sort((a, b) => a.start - b.start);
  }

  /** Opens the one that begins with a byte; undefined when none does. */
  async open(start: number): Promise<FileHandle | undefined> {
    return openOrUndefined(join(this.#folder, `${this.#stream}.${start}`));
  }

  /** Opens the one that a byte is in, or else the oldest after it. */
  async openAt(position: number): Promise<{ start: number; handle: FileHandle } | undefined> {
    for (;;) {
      const segments = await this.all();
      const segment = segments.findLast(({ start }) => start <= position) ?? segments[0];
      if (segment === undefined) return undefined;
      const handle = await openOrUndefined(segment.path);
      // Dropped since: there are later ones.
      if (handle !== undefined) return { start: segment.start, handle };
    }
  }

  /** Number of bytes that the stream has had so far. */
  async end(): Promise<number> {
    const last = (await this.all()).at(-1);
    return last === undefined ? 0 : last.start + (await stat(last.path)).size;
  }
}

/** Whether a file of a sandbox' folder has to do with its output. */
export function isLogFile(name: string): boolean {
  return /^(stdout|stderr)(\.|$)/.test(name);
}

async function openOrUndefined(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}
