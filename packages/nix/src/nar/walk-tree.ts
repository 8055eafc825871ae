import { type Dirent, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { NixError } from '../nix-error.ts';
import type { ChunkWriter } from './chunk-writer.ts';
import { MAX_DEPTH } from './nar-format.ts';

/** What becomes of the NAR that {@link walkTree} writes. */
export interface TreeVisitor<T> {
  /** The writer is full, or all is written: takes what it holds. */
  take(): T;
  /** Writes a whole file. */
  file(path: Buffer): Generator<T, void>;
}

interface OpenDirectory {
  readonly path: Buffer;
  readonly entries: Dirent<Buffer>[];
  next: number;
}

/**
 * Walks a tree on disk in the order of its NAR and writes that; of files, what `visitor` does.
 *
 * @throws {@link NixError} `NIX_DUMP_FAILED`
 */
export function* walkTree<T>(root: string, out: ChunkWriter, visitor: TreeVisitor<T>): Generator<T, void> {
  const open: OpenDirectory[] = [];
  const writeNode = (path: Buffer, entry?: Dirent<Buffer>) => beginNode(out, open, { path, entry, visitor });
  yield* writeNode(Buffer.from(root));
  for (;;) {
    const directory = open.at(-1);
    if (directory === undefined) break;
    if (out.isFull) yield visitor.take();
    const entry = directory.entries[directory.next++];
    if (entry === undefined) {
      open.pop();
      out.end();
    } else {
      out.beginEntry(entry.name);
      const depth = open.length;
      yield* writeNode(childPath(directory.path, entry.name), entry);
      if (open.length > depth) continue;
    }
    // The parenthesis of the entry that is complete now; the root has none.
    if (open.length > 0) out.end();
  }
  if (!out.isEmpty) yield visitor.take();
}

interface Node<T> {
  readonly path: Buffer;
  readonly entry: Dirent<Buffer> | undefined;
  readonly visitor: TreeVisitor<T>;
}

/** Writes a whole file or link; of a directory only the beginning, and puts it on the stack. */
function* beginNode<T>(out: ChunkWriter, open: OpenDirectory[], { path, entry, visitor }: Node<T>): Generator<T, void> {
  if (open.length >= MAX_DEPTH) throw failed(path, `it is nested deeper than ${MAX_DEPTH} levels`);
  const kind = entry !== undefined && !isUnknown(entry) ? entry : attempt(path, () => lstatSync(path));
  if (kind.isFile()) {
    yield* visitor.file(path);
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

/** Does something with a path of a tree. @throws {@link NixError} `NIX_DUMP_FAILED` */
export function attempt<T>(path: Buffer, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw failed(path, error instanceof Error ? error.message : String(error), error);
  }
}

/** Why there is no NAR of a tree. */
export function failed(path: Buffer, why: string, cause?: unknown): NixError {
  return new NixError('NIX_DUMP_FAILED', `Cannot make a NAR of "${path.toString()}": ${why}`, { cause });
}
