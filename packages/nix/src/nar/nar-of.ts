import { abortable, type SignalOptions } from '../abortable.ts';
import { NixError } from '../nix-error.ts';
import { ChunkWriter } from './chunk-writer.ts';
import { MAX_DEPTH, nameFault, targetFault } from './nar-format.ts';

/** A file, link or folder in memory. Text is taken as UTF-8. */
export type NarTree = NarTreeFile | NarTreeSymlink | NarTreeDirectory;

/** A file, with its contents at hand or coming. */
export type NarTreeFile = { readonly type: 'regular'; readonly executable?: boolean | undefined } & (
  | { readonly contents: Uint8Array | string }
  /** Contents that come by and by, of exactly `size` bytes. */
  | { readonly contents: AsyncIterable<Uint8Array>; readonly size: number }
);

/** A symbolic link; its target is any text of 1 to 4095 bytes without NUL. */
export interface NarTreeSymlink {
  readonly type: 'symlink';
  readonly target: Uint8Array | string;
}

/** A directory; names have 1 to 255 bytes, without "/" and NUL, and are neither "." nor "..". */
export interface NarTreeDirectory {
  readonly type: 'directory';
  /** In any order; a `Map`, or `Object.entries()` of an object. */
  readonly entries: Iterable<readonly [name: Uint8Array | string, node: NarTree]>;
}

interface OpenDirectory {
  readonly path: string;
  readonly entries: readonly (readonly [name: Buffer, node: NarTree])[];
  next: number;
}

/**
 * The NAR of a tree in memory, the same bytes that `nix-store --dump` writes of that tree on disk.
 * Chunks of at most 1 MiB that are not touched again once handed out.
 *
 * @throws {@link NixError} `NIX_TREE_INVALID` naming the place: a name or target that no NAR can hold, a name twice, too deep, a stream
 *   of another size than promised.
 */
export async function* narOf(tree: NarTree, { signal }: SignalOptions = {}): AsyncGenerator<Uint8Array, void> {
  signal?.throwIfAborted();
  const out = new ChunkWriter({ reuse: false });
  const open: OpenDirectory[] = [];
  yield* writeNode(out, open, { path: '.', node: tree, signal });
  for (let directory = open.at(-1); directory !== undefined; directory = open.at(-1)) {
    if (out.isFull) {
      yield out.take();
      signal?.throwIfAborted();
    }
    const entry = directory.entries[directory.next++];
    if (entry === undefined) {
      open.pop();
      out.end();
    } else {
      const [name, node] = entry;
      out.beginEntry(name);
      yield* writeNode(out, open, { path: `${directory.path}/${name.toString()}`, node, signal });
      if (node.type === 'directory') continue;
    }
    // The parenthesis of the entry that is complete now; the root has none.
    if (open.length > 0) out.end();
  }
  yield out.take();
}

interface Place extends SignalOptions {
  readonly path: string;
  readonly node: NarTree;
}

/** Writes a whole file or link; of a directory only the beginning, and puts it on the stack. */
async function* writeNode(out: ChunkWriter, open: OpenDirectory[], place: Place): AsyncGenerator<Uint8Array, void> {
  const { path, node } = place;
  if (open.length >= MAX_DEPTH) throw invalid(path, `it is nested deeper than ${MAX_DEPTH} levels`);
  if (node.type === 'directory') {
    out.beginDirectory();
    open.push({ path, entries: sortedEntries(path, node), next: 0 });
  } else if (node.type === 'symlink') {
    const target = bytesOf(path, 'the link target', node.target);
    const fault = targetFault(target);
    if (fault !== undefined) throw invalid(path, `the link target ${fault}`);
    out.symlink(target);
  } else {
    yield* writeFile(out, node, place);
  }
}

async function* writeFile(
  out: ChunkWriter,
  node: NarTreeFile,
  { path, signal }: Place,
): AsyncGenerator<Uint8Array, void> {
  const executable = node.executable ?? false;
  const { contents } = node;
  let size: number;
  if (typeof contents === 'string' || contents instanceof Uint8Array) {
    const bytes = bytesOf(path, 'the text', contents);
    size = bytes.length;
    out.beginFile({ executable, size });
    yield* writeContents(out, bytes);
  } else {
    size = 'size' in node ? node.size : Number.NaN;
    if (!Number.isSafeInteger(size) || size < 0) throw invalid(path, `${size} is not a size in bytes`);
    out.beginFile({ executable, size });
    let left = size;
    for await (const chunk of abortable(contents, signal)) {
      left -= chunk.length;
      if (left < 0) throw invalid(path, `its contents are longer than the promised ${size} bytes`);
      yield* writeContents(out, chunk);
    }
    if (left > 0) throw invalid(path, `its contents are ${left} bytes shorter than the promised ${size}`);
  }
  if (out.isFull) yield out.take();
  out.endFile(size);
}

function* writeContents(out: ChunkWriter, bytes: Uint8Array): Generator<Uint8Array, void> {
  for (let at = 0; at < bytes.length;) {
    if (out.space === 0) yield out.take();
    at += out.writeContents(bytes.subarray(at));
  }
}

/** Names checked, and in the order of their bytes. */
function sortedEntries(path: string, { entries }: NarTreeDirectory): [Buffer, NarTree][] {
  const sorted = Array.from(entries, ([text, node]): [Buffer, NarTree] => {
    const name = bytesOf(path, 'a name in it', text);
    const fault = nameFault(name);
    if (fault !== undefined) throw invalid(path, `the name ${JSON.stringify(name.toString())} in it ${fault}`);
    return [name, node];
  }).sort(([a], [b]) => Buffer.compare(a, b));
  for (const [index, [name]] of sorted.entries()) {
    if (sorted[index + 1]?.[0].equals(name) === true) {
      throw invalid(path, `the name ${JSON.stringify(name.toString())} in it appears twice`);
    }
  }
  return sorted;
}

function bytesOf(path: string, what: string, value: Uint8Array | string): Buffer {
  if (typeof value !== 'string') return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  // Such text would become other text in UTF-8, and two names could become the same.
  if (!value.isWellFormed()) throw invalid(path, `${what} ${JSON.stringify(value)} is not well-formed Unicode`);
  return Buffer.from(value);
}

function invalid(path: string, why: string): NixError {
  return new NixError('NIX_TREE_INVALID', `Cannot make a NAR of "${path}": ${why}`);
}
