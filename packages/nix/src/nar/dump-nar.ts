import { closeSync, constants, type Dirent, fstatSync, lstatSync, openSync, readdirSync, readlinkSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { ChunkWriter } from './chunk-writer.ts';
import { MAX_DEPTH } from './nar-format.ts';
import { NixError } from '../nix-error.ts';
import type { NarOptions } from './nar-options.ts';

/** Reading is synchronous, which is fastest; after this many ms others get their turn. */
const TIME_SLICE = 5;

/**
 * The NAR of a file, folder or symbolic link on disk, the same bytes that `nix-store --dump` writes.
 * Constant memory; chunks of at most 1 MiB that are not touched again once handed out (`reuseChunks` aside).
 *
 * @throws {@link NixError} `NIX_DUMP_FAILED` when something cannot be read, changes meanwhile, or has no place in a NAR.
 */
export async function* dumpNar(path: string, options: NarOptions = {}): AsyncGenerator<Uint8Array, void> {
  const { signal, reuseChunks = false } = options;
  signal?.throwIfAborted();
  let sliceEnd = performance.now() + TIME_SLICE;
  for (const chunk of narChunks(path, new ChunkWriter({ reuse: reuseChunks }))) {
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

function* narChunks(root: string, out: ChunkWriter): Generator<Buffer, void> {
  const open: OpenDirectory[] = [];
  yield* writeNode(out, open, Buffer.from(root));
  for (;;) {
    const directory = open.at(-1);
    if (directory === undefined) break;
    if (out.isFull) yield out.take();
    const entry = directory.entries[directory.next++];
    if (entry === undefined) {
      open.pop();
      out.end();
    } else {
      out.beginEntry(entry.name);
      const depth = open.length;
      yield* writeNode(out, open, childPath(directory.path, entry.name), entry);
      if (open.length > depth) continue;
    }
    // The parenthesis of the entry that is complete now; the root has none.
    if (open.length > 0) out.end();
  }
  if (!out.isEmpty) yield out.take();
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
    out.symlink(attempt(path, () => readlinkSync(path, { encoding: 'buffer' })));
  } else if (kind.isDirectory()) {
    const entries = attempt(path, () => readdirSync(path, { encoding: 'buffer', withFileTypes: true }));
    entries.sort((a, b) => Buffer.compare(a.name, b.name));
    out.beginDirectory();
    open.push({ path, entries, next: 0 });
  } else {
    throw failed(path, 'it is a device, socket or pipe, which a NAR cannot hold');
  }
}

function* writeFile(out: ChunkWriter, path: Buffer): Generator<Buffer, void> {
  const fd = attempt(path, () => openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW));
  try {
    const { size, mode } = attempt(path, () => fstatSync(fd));
    out.beginFile({ executable: (mode & 0o100) !== 0, size });
    for (let left = size; left > 0;) {
      if (out.space === 0) yield out.take();
      const read = attempt(path, () => out.readContents(fd, left));
      if (read === 0) throw failed(path, 'it became shorter while it was read');
      left -= read;
    }
    if (out.isFull) yield out.take();
    out.endFile(size);
  } finally {
    closeSync(fd);
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
