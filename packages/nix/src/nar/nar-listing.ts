import type { SignalOptions } from '../abortable.ts';
import { NixError } from '../nix-error.ts';
import { MAX_DEPTH, nameFault, targetFault } from './nar-format.ts';
import type { NarParserOptions } from './nar-parser.ts';
import { readNar } from './read-nar.ts';

/** What a `.ls` file of a binary cache holds: the tree of a NAR without the contents of its files. */
export interface NarListing {
  readonly version: 1;
  readonly root: NarListingNode;
}

/** What is at a place of a NAR. */
export type NarListingNode = NarListingFile | NarListingSymlink | NarListingDirectory;

/** A file; sizes and offsets are in bytes. */
export interface NarListingFile {
  readonly type: 'regular';
  /** In bytes. */
  readonly size: number;
  readonly executable?: true;
  /** Where the contents begin, in bytes from the start of the uncompressed NAR. */
  readonly narOffset?: number;
}

/** A symbolic link. */
export interface NarListingSymlink {
  readonly type: 'symlink';
  readonly target: string;
}

/** A directory and what is in it, by name. */
export interface NarListingDirectory {
  readonly type: 'directory';
  /** Nodes by name; has no prototype, so that any name is safe to look up. */
  readonly entries: Readonly<Record<string, NarListingNode>>;
}

type Entries = Record<string, NarListingNode>;

/**
 * The listing of an uncompressed NAR. The whole NAR is read; its tree, not the contents, is held in memory.
 *
 * @throws {@link NixError} what {@link readNar} throws; `NIX_LISTING_INVALID` when a name or link target is not UTF-8: JSON cannot hold
 *   it, and Nix 2.34 writes no listing either (2.8 writes one that is not JSON).
 */
export async function listNar(
  source: AsyncIterable<Uint8Array>,
  options: NarParserOptions & SignalOptions = {},
): Promise<NarListing> {
  const origin = options.origin ?? 'NAR';
  const text = (bytes: Buffer) => {
    const decoded = bytes.toString();
    if (Buffer.from(decoded).equals(bytes)) return decoded;
    throw new NixError('NIX_LISTING_INVALID', `Cannot list the NAR of "${origin}": "${decoded}" is not UTF-8`);
  };
  const top = entriesOf();
  const open: Entries[] = [top];
  const add = (name: Buffer, node: NarListingNode) => {
    const entries = open.at(-1);
    if (entries !== undefined) entries[text(name)] = node;
  };
  for await (const event of readNar(source, options)) {
    if (event.type === 'directory') {
      const entries = entriesOf();
      add(event.name, { type: 'directory', entries });
      open.push(entries);
    } else if (event.type === 'directory-end') open.pop();
    else if (event.type === 'symlink') add(event.name, { type: 'symlink', target: text(event.target) });
    else if (event.type === 'file') {
      const { size, offset: narOffset, executable } = event;
      add(event.name, { type: 'regular', size, ...(executable ? { executable } : {}), narOffset });
    }
  }
  // The name of the root is empty, and a NAR that was read to its end has one.
  return { version: 1, root: top[''] as NarListingNode };
}

/**
 * The text of a `.ls` file, byte for byte as Nix 2.34 writes it: keys sorted bytewise, no white space, no line end.
 * (Nix 2.8 writes the same value with the keys of a node in another order.)
 */
export function formatNarListing({ root }: NarListing): string {
  return `{"root":${formatNode(root)},"version":1}`;
}

function formatNode(node: NarListingNode): string {
  if (node.type === 'symlink') return JSON.stringify({ target: node.target, type: node.type });
  if (node.type === 'regular') {
    const { executable, narOffset, size, type } = node;
    return JSON.stringify({ executable, narOffset, size, type });
  }
  // Not an object: those put names that look like numbers first.
  const entries = Object.entries(node.entries)
    .map(([name, child]) => ({ bytes: Buffer.from(name), text: `${JSON.stringify(name)}:${formatNode(child)}` }))
    .sort((a, b) => Buffer.compare(a.bytes, b.bytes))
    .map(({ text }) => text);
  return `{"entries":{${entries.join(',')}},"type":"directory"}`;
}

/**
 * Parses a `.ls` file. Strict: only the fields Nix writes, names and targets that a NAR could hold, at most as deep as one.
 *
 * @param origin where the text comes from, for the error.
 * @throws {@link NixError} `NIX_LISTING_INVALID`.
 */
export function parseNarListing(text: string, origin = 'listing'): NarListing {
  const invalid = (why: string, cause?: unknown) =>
    new NixError('NIX_LISTING_INVALID', `Cannot parse the NAR listing "${origin}": ${why}`, { cause });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalid('it is not JSON', error);
  }
  if (!isObject(value)) throw invalid('it is not an object');
  requireKeys(value, ['version', 'root'], invalid);
  if (value['version'] !== 1) throw invalid(`its version is ${JSON.stringify(value['version'])}, expected 1`);
  return { version: 1, root: parseNode(value['root'], { path: '.', depth: 0, invalid }) };
}

interface Place {
  readonly path: string;
  readonly depth: number;
  readonly invalid: (why: string) => NixError;
}

function parseNode(value: unknown, place: Place): NarListingNode {
  const invalid = (why: string) => place.invalid(`${JSON.stringify(place.path)} ${why}`);
  if (place.depth >= MAX_DEPTH) throw invalid(`is nested deeper than ${MAX_DEPTH} levels`);
  if (!isObject(value)) throw invalid('is not an object');
  const { type, size, executable, narOffset, target, entries } = value;
  if (type === 'directory') {
    requireKeys(value, ['type', 'entries'], invalid);
    if (!isObject(entries)) throw invalid('has no entries');
    return { type, entries: parseEntries(entries, place, invalid) };
  }
  if (type === 'symlink') {
    requireKeys(value, ['type', 'target'], invalid);
    if (typeof target !== 'string') throw invalid('has no target');
    const fault = textFault(target, targetFault);
    if (fault !== undefined) throw invalid(`has a target that ${fault}`);
    return { type, target };
  }
  if (type !== 'regular') throw invalid('has a type other than "regular", "symlink" and "directory"');
  requireKeys(value, ['type', 'size', 'executable', 'narOffset'], invalid);
  if (!isSize(size)) throw invalid('has no size');
  if (executable !== undefined && typeof executable !== 'boolean') throw invalid('is "executable" by something else');
  if (narOffset !== undefined && !isSize(narOffset)) throw invalid('has a narOffset that is no offset');
  return {
    type,
    size,
    ...(executable === true ? { executable } : {}),
    ...(narOffset === undefined ? {} : { narOffset }),
  };
}

function parseEntries(value: Fields, { path, depth, invalid: outer }: Place, invalid: Invalid): Entries {
  const entries = entriesOf();
  for (const [name, child] of Object.entries(value)) {
    const fault = textFault(name, nameFault);
    if (fault !== undefined) throw invalid(`has an entry ${JSON.stringify(name)} whose name ${fault}`);
    entries[name] = parseNode(child, { path: `${path}/${name}`, depth: depth + 1, invalid: outer });
  }
  return entries;
}

type Fields = Readonly<Record<string, unknown>>;
type Invalid = (why: string) => NixError;

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function requireKeys(value: Fields, allowed: readonly string[], invalid: Invalid): void {
  const unknown = Object.keys(value).find((key) => !allowed.includes(key));
  if (unknown !== undefined) throw invalid(`has the unknown field ${JSON.stringify(unknown)}`);
}

function textFault(text: string, fault: (bytes: Uint8Array) => string | undefined): string | undefined {
  return text.isWellFormed() ? fault(Buffer.from(text)) : 'is not well-formed Unicode';
}

function entriesOf(): Entries {
  return Object.create(null) as Entries;
}
