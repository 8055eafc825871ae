import {
  closeSync,
  constants,
  type Dirent,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { MAX_DEPTH, MAX_NAME_LENGTH, MAX_TARGET_LENGTH, NAR_MAGIC, narStrings, paddingOf } from './nar-format.ts';
import { NixError } from '../nix-error.ts';
import type { SignalOptions } from '../abortable.ts';

const CHUNK_SIZE = 1024 * 1024;
/** The first chunk is smaller: most paths are, and a buffer costs what it could hold. */
const FIRST_CHUNK_SIZE = 64 * 1024;
/** More than everything that is written between two looks at the space left, file contents aside. */
const HEADER_MAX = MAX_NAME_LENGTH + MAX_TARGET_LENGTH + 1024;
/** Reading is synchronous, which is fastest; after this many ms others get their turn. */
const TIME_SLICE = 5;

const MAGIC = narStrings(NAR_MAGIC);
const ENTRY = narStrings('entry', '(', 'name');
const NODE = narStrings('node');
const CLOSE = narStrings(')');
const DIRECTORY = narStrings('(', 'type', 'directory');
const SYMLINK = narStrings('(', 'type', 'symlink', 'target');
const REGULAR = narStrings('(', 'type', 'regular', 'contents');
const EXECUTABLE = narStrings('(', 'type', 'regular', 'executable', '', 'contents');

/**
 * The NAR of a file, folder or symbolic link on disk, the same bytes that `nix-store --dump` writes.
 * Constant memory; chunks of at most 1 MiB that are not touched again once handed out.
 *
 * @throws {@link NixError} `NIX_DUMP_FAILED` when something cannot be read, changes meanwhile, or has no place in a NAR.
 */
export async function* dumpNar(path: string, { signal }: SignalOptions = {}): AsyncGenerator<Uint8Array, void> {
  signal?.throwIfAborted();
  let sliceEnd = performance.now() + TIME_SLICE;
  for (const chunk of narChunks(path)) {
    yield chunk;
    signal?.throwIfAborted();
    if (performance.now() > sliceEnd) {
      await setImmediate();
      sliceEnd = performance.now() + TIME_SLICE;
    }
  }
}

interface OpenDirectory {
  readonly path: Buffer;
  readonly entries: Dirent<Buffer>[];
  next: number;
}

function* narChunks(root: string): Generator<Buffer, void> {
  const out = new ChunkWriter();
  const open: OpenDirectory[] = [];
  out.write(MAGIC);
  yield* writeNode(out, open, Buffer.from(root));
  for (;;) {
    const directory = open.at(-1);
    if (directory === undefined) break;
    if (out.space < HEADER_MAX) yield out.take();
    const entry = directory.entries[directory.next++];
    if (entry === undefined) {
      open.pop();
      out.write(CLOSE);
    } else {
      out.write(ENTRY);
      out.writeString(entry.name);
      out.write(NODE);
      const depth = open.length;
      yield* writeNode(out, open, childPath(directory.path, entry.name), entry);
      if (open.length > depth) continue;
    }
    // The parenthesis of the entry that is complete now; the root has none.
    if (open.length > 0) out.write(CLOSE);
  }
  if (out.used > 0) yield out.take();
}

/** Writes a whole file or link; of a directory only the beginning, and puts it on the stack. */
function* writeNode(
  out: ChunkWriter,
  open: OpenDirectory[],
  path: Buffer,
  entry?: Dirent<Buffer>,
): Generator<Buffer, void> {
  if (open.length >= MAX_DEPTH) throw failed(path, `it is nested deeper than ${MAX_DEPTH} levels`);
  const kind = entry !== undefined && !isUnknown(entry) ? entry : attempt(path, () => lstatSync(path));
  if (kind.isFile()) {
    yield* writeFile(out, path);
  } else if (kind.isSymbolicLink()) {
    out.write(SYMLINK);
    out.writeString(attempt(path, () => readlinkSync(path, { encoding: 'buffer' })));
    out.write(CLOSE);
  } else if (kind.isDirectory()) {
    const entries = attempt(path, () => readdirSync(path, { encoding: 'buffer', withFileTypes: true }));
    entries.sort((a, b) => Buffer.compare(a.name, b.name));
    out.write(DIRECTORY);
    open.push({ path, entries, next: 0 });
  } else {
    throw failed(path, 'it is a device, socket or pipe, which a NAR cannot hold');
  }
}

function* writeFile(out: ChunkWriter, path: Buffer): Generator<Buffer, void> {
  const fd = attempt(path, () => openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW));
  try {
    const { size, mode } = attempt(path, () => fstatSync(fd));
    out.write((mode & 0o100) === 0 ? REGULAR : EXECUTABLE);
    out.writeLength(size);
    for (let left = size; left > 0;) {
      if (out.space === 0) yield out.take();
      const read = attempt(path, () => out.readFrom(fd, left));
      if (read === 0) throw failed(path, 'it became shorter while it was read');
      left -= read;
    }
    if (out.space < HEADER_MAX) yield out.take();
    out.writeZeros(paddingOf(size));
    out.write(CLOSE);
  } finally {
    closeSync(fd);
  }
}

/** Collects what is written; whoever writes looks after the space. */
class ChunkWriter {
  #buffer = Buffer.allocUnsafeSlow(FIRST_CHUNK_SIZE);
  used = 0;

  get space(): number {
    return this.#buffer.length - this.used;
  }

  take(): Buffer {
    const chunk = this.#buffer.subarray(0, this.used);
    this.#buffer = Buffer.allocUnsafeSlow(CHUNK_SIZE);
    this.used = 0;
    return chunk;
  }

  write(bytes: Uint8Array): void {
    this.#buffer.set(bytes, this.used);
    this.used += bytes.length;
  }

  writeLength(length: number): void {
    this.used = this.#buffer.writeUInt32LE(length % 0x1_0000_0000, this.used);
    this.used = this.#buffer.writeUInt32LE(Math.floor(length / 0x1_0000_0000), this.used);
  }

  writeZeros(count: number): void {
    this.#buffer.fill(0, this.used, this.used + count);
    this.used += count;
  }

  writeString(bytes: Uint8Array): void {
    this.writeLength(bytes.length);
    this.write(bytes);
    this.writeZeros(paddingOf(bytes.length));
  }

  readFrom(fd: number, length: number): number {
    const read = readSync(fd, this.#buffer, this.used, Math.min(length, this.space), null);
    this.used += read;
    return read;
  }
}

/** `<directory>/<name>` as bytes, since names need not be valid UTF-8. */
export function childPath(directory: Buffer, name: Buffer): Buffer {
  const path = Buffer.allocUnsafe(directory.length + 1 + name.length);
  path.set(directory, 0);
  path[directory.length] = 0x2f;
  path.set(name, directory.length + 1);
  return path;
}

/** Some file systems do not say in the directory what an entry is. */
function isUnknown(entry: Dirent<Buffer>): boolean {
  return !(entry.isFile() || entry.isDirectory() || entry.isSymbolicLink());
}

function attempt<T>(path: Buffer, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw failed(path, error instanceof Error ? error.message : String(error), error);
  }
}

function failed(path: Buffer, why: string, cause?: unknown): NixError {
  return new NixError('NIX_DUMP_FAILED', `Cannot make a NAR of "${path.toString()}": ${why}`, { cause });
}
