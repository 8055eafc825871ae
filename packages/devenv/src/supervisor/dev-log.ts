import {
  closeSync,
  createReadStream,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  fstatSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import type { DevLogEntry, DevLogOptions } from '../dev-controls.ts';
import { devPaths } from '../dev-paths.ts';

/** In bytes. A file that has reached it is put aside. */
const FILE_SIZE = 4 * 1024 * 1024;
/** How many files that were put aside are kept. */
const OLD_FILES = 3;
/** Entries that wait for a reader who is slower than the services write. The oldest go first. */
const QUEUE_LENGTH = 10_000;

export interface DevLogFileOptions {
  /** @default 4 MiB */
  fileSize?: number | undefined;
}

/**
 * What all services print, in one file: `logs/dev.log`, a {@link DevLogEntry} a line as JSON, put aside as `dev.log.1` to `dev.log.3` when it has
 * grown. Written in one step for each entry, so that what was written is there after a kill.
 */
export class DevLogFile implements Disposable {
  readonly #file: string;
  readonly #fileSize: number;
  readonly #followers = new Set<Follower>();
  #fd: number | undefined;
  #size: number;

  constructor(dataDir: string, { fileSize = FILE_SIZE }: DevLogFileOptions = {}) {
    this.#file = devPaths(dataDir).log;
    this.#fileSize = fileSize;
    mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 });
    this.#fd = openSync(this.#file, 'a+', 0o600);
    this.#size = fstatSync(this.#fd).size;
    // Of a run that was killed while it wrote: what comes next begins a line of its own.
    if (this.#size > 0 && !endsLine(this.#fd, this.#size)) this.#size += writeSync(this.#fd, '\n');
  }

  append(entry: DevLogEntry): void {
    if (this.#fd === undefined) return;
    if (this.#size >= this.#fileSize) this.#rotate();
    this.#size += writeSync(this.#fd, `${JSON.stringify(entry)}\n`);
    for (const follower of this.#followers) follower.give(entry);
  }

  /** What was written so far, and with `follow` all that comes until the log is closed: nothing twice, nothing left out. */
  async *read({ follow = false, signal, ...options }: DevLogOptions = {}): AsyncIterable<DevLogEntry> {
    signal?.throwIfAborted();
    // Both in one turn of the event loop: what is appended from here on is in the follower, what was before in the files.
    const follower = follow && this.#fd !== undefined ? new Follower(options.services) : undefined;
    if (follower !== undefined) this.#followers.add(follower);
    const past = openFiles(this.#file);
    try {
      yield* readPast(past, options);
      if (follower !== undefined) yield* follower.take(signal);
    } finally {
      if (follower !== undefined) this.#followers.delete(follower);
    }
  }

  /** Followers come to their end. */
  [Symbol.dispose](): void {
    if (this.#fd === undefined) return;
    closeSync(this.#fd);
    this.#fd = undefined;
    for (const follower of this.#followers) follower.end();
  }

  #rotate(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    rmSync(`${this.#file}.${OLD_FILES}`, { force: true });
    for (let age = OLD_FILES - 1; age >= 0; age--) {
      const from = age === 0 ? this.#file : `${this.#file}.${age}`;
      try {
        renameSync(from, `${this.#file}.${age + 1}`);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
    }
    this.#fd = openSync(this.#file, 'a', 0o600);
    this.#size = 0;
  }
}

/** Names of the files that were put aside, the newest first. */
export function oldLogs(file: string): string[] {
  return [...Array(OLD_FILES).keys()].map((age) => `${file}.${age + 1}`);
}

/** The log of dev services that do not run. Nothing when there is none. */
export async function* devLog(
  dataDir: string,
  options: Omit<DevLogOptions, 'follow'> = {},
): AsyncIterable<DevLogEntry> {
  options.signal?.throwIfAborted();
  yield* readPast(openFiles(devPaths(dataDir).log), options);
}

interface OpenFile {
  /** Undefined once a stream has it. */
  fd: number | undefined;
  /** How much of it was written when it was opened. */
  size: number;
}

/** All files of the log, the oldest first. What is renamed afterwards is read all the same. */
function openFiles(file: string): OpenFile[] {
  return [file, ...oldLogs(file)].toReversed().flatMap((name) => {
    try {
      const fd = openSync(name, 'r');
      return [{ fd, size: fstatSync(fd).size }];
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  });
}

type PastOptions = Omit<DevLogOptions, 'follow'>;

/** Reads files, and closes them all. */
async function* readPast(files: readonly OpenFile[], options: PastOptions): AsyncIterable<DevLogEntry> {
  try {
    if (options.tail === undefined) {
      for (const file of files) yield* entriesOf(file, options);
    } else yield* await lastEntries(files, { ...options, tail: options.tail });
  } finally {
    for (const { fd } of files) if (fd !== undefined) closeSync(fd);
  }
}

/** The last ones, in their order; older files are not read when newer ones have enough. */
async function lastEntries(
  files: readonly OpenFile[],
  options: PastOptions & { tail: number },
): Promise<DevLogEntry[]> {
  let found: DevLogEntry[] = [];
  for (const file of files.toReversed()) {
    if (found.length >= options.tail) break;
    const entries = await Array.fromAsync(entriesOf(file, options));
    found = [...entries, ...found];
  }
  return options.tail === 0 ? [] : found.slice(-options.tail);
}

async function* entriesOf(file: OpenFile, { services, signal }: PastOptions): AsyncIterable<DevLogEntry> {
  const { fd, size } = file;
  if (fd === undefined || size === 0) return;
  // The stream closes it, whatever it is told of that, as soon as it is destroyed.
  file.fd = undefined;
  const input = createReadStream('', { fd, start: 0, end: size - 1 });
  try {
    for await (const line of createInterface({ input, crlfDelay: Infinity })) {
      signal?.throwIfAborted();
      const entry = parseEntry(line);
      if (entry !== undefined && isWanted(entry, services)) yield entry;
    }
  } finally {
    input.destroy();
  }
}

/** A line that was half written when its writer was killed is none. */
function parseEntry(line: string): DevLogEntry | undefined {
  try {
    const { time, service, source, text } = JSON.parse(line) as Partial<DevLogEntry>;
    if (time === undefined || service === undefined || source === undefined || text === undefined) return undefined;
    return { time, service, source, text };
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function isWanted({ service }: DevLogEntry, services: DevLogOptions['services']): boolean {
  return services === undefined || services.length === 0 || services.includes(service);
}

function endsLine(fd: number, size: number): boolean {
  const last = Buffer.alloc(1);
  readSync(fd, last, 0, 1, size - 1);
  return last[0] === 0x0a;
}

/** A reader who takes what comes at its own pace. */
class Follower {
  readonly #services: DevLogOptions['services'];
  #queue: DevLogEntry[] = [];
  #left = 0;
  #ended = false;
  #arrived = Promise.withResolvers<void>();

  constructor(services: DevLogOptions['services']) {
    this.#services = services;
  }

  give(entry: DevLogEntry): void {
    if (!isWanted(entry, this.#services)) return;
    this.#queue.push(entry);
    if (this.#queue.length > QUEUE_LENGTH) {
      this.#queue.shift();
      this.#left++;
    }
    this.#arrived.resolve();
  }

  end(): void {
    this.#ended = true;
    this.#arrived.resolve();
  }

  async *take(signal: AbortSignal | undefined): AsyncIterable<DevLogEntry> {
    const stop = (): void => this.#arrived.resolve();
    signal?.addEventListener('abort', stop);
    try {
      for (;;) {
        if (signal?.aborted === true) return;
        const entries = this.#queue.splice(0);
        if (entries.length === 0 && this.#ended) return;
        const [first] = entries;
        if (this.#left > 0 && first !== undefined) {
          yield {
            ...first,
            source: 'supervisor',
            text: `(${this.#left} lines left out: they came faster than they were read)`,
          };
          this.#left = 0;
        }
        yield* entries;
        if (this.#queue.length > 0 || this.#ended) continue;
        await this.#arrived.promise;
        this.#arrived = Promise.withResolvers<void>();
      }
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }
}
