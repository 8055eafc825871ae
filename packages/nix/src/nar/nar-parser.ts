import { NixError } from '../nix-error.ts';
import {
  MAX_DEPTH,
  MAX_NAME_LENGTH,
  MAX_TAG_LENGTH,
  MAX_TARGET_LENGTH,
  NAR_MAGIC,
  nameFault,
  paddingOf,
  targetFault,
} from './nar-format.ts';

/** Receives the content of a NAR in order. Names are empty for the root; buffers may be views of the input. */
export interface NarVisitor {
  directory(name: Buffer): void;
  directoryEnd(): void;
  symlink(name: Buffer, target: Buffer): void;
  /** `offset` is where the contents begin, in bytes from the start of the NAR. */
  file(name: Buffer, file: { executable: boolean; size: number; offset: number }): void;
  /** A piece of the contents of the last file; never empty. */
  data(bytes: Buffer): void;
  fileEnd(): void;
}

export interface NarParserOptions {
  /** Most bytes the NAR may have; a file that claims more than what is left of it is refused at once. */
  maxSize?: number | undefined;
  /** What the NAR is of, for the error messages. */
  origin?: string | undefined;
}

/** What the parser waits for. Each is one string of the grammar, except `contents` (a length) and the last three. */
type State =
  | 'magic'
  | 'node'
  | 'type-tag'
  | 'type'
  | 'file-tag'
  | 'executable'
  | 'contents-tag'
  | 'contents'
  | 'target-tag'
  | 'target'
  | 'entry-or-end'
  | 'entry'
  | 'name-tag'
  | 'name'
  | 'node-tag'
  | 'node-end'
  | 'entry-end'
  | 'data'
  | 'padding'
  | 'done';

const EMPTY = Buffer.alloc(0);

/** The one string that may come in a state, and the state after it. */
const FIXED: Partial<Record<State, readonly [expected: Buffer, next: State]>> = {
  magic: [Buffer.from(NAR_MAGIC), 'node'],
  node: [Buffer.from('('), 'type-tag'],
  'type-tag': [Buffer.from('type'), 'type'],
  executable: [EMPTY, 'contents-tag'],
  'contents-tag': [Buffer.from('contents'), 'contents'],
  'target-tag': [Buffer.from('target'), 'target'],
  entry: [Buffer.from('('), 'name-tag'],
  'name-tag': [Buffer.from('name'), 'name'],
  'node-tag': [Buffer.from('node'), 'node'],
  'entry-end': [Buffer.from(')'), 'entry-or-end'],
};

/**
 * A strict, iterative push parser of NARs: whatever it accepts, the writer gives back byte for byte.
 * Memory does not depend on the NAR: at most one string that straddles two chunks is held, and one name per level.
 */
export class NarParser {
  readonly #visitor: NarVisitor;
  readonly #maxSize: number;
  readonly #origin: string;
  #state: State = 'magic';
  /** Per open directory the name of its last entry. */
  readonly #lastNames: Buffer[] = [];
  #name: Buffer = EMPTY;
  #executable = false;
  /** Bytes of file contents, or of padding, still to come. */
  #left = 0;
  #padding = 0;

  /** The chunk at hand, how far it is read, and how many bytes came before it. */
  #chunk: Buffer = EMPTY;
  #at = 0;
  #before = 0;
  /** The beginning of a string whose rest is in the next chunk. */
  readonly #partial = Buffer.allocUnsafe(8 + MAX_TARGET_LENGTH + 8);
  #partialLength = 0;
  /** Where what is being read began, for the errors. */
  #stepStart = 0;

  constructor(visitor: NarVisitor, options: NarParserOptions = {}) {
    this.#visitor = visitor;
    this.#maxSize = options.maxSize ?? Number.MAX_SAFE_INTEGER;
    this.#origin = options.origin ?? 'NAR';
  }

  /** Bytes read so far. */
  get offset(): number {
    return this.#before + this.#at;
  }

  /**
   * Reads the next piece of the NAR.
   *
   * @throws {@link NixError} `NIX_NAR_INVALID`, or `NIX_NAR_SIZE_MISMATCH` beyond `maxSize`.
   */
  write(bytes: Uint8Array): void {
    this.#chunk = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#at = 0;
    if (this.#before + bytes.length > this.#maxSize) throw this.#tooLarge();
    while (this.#step());
    this.#before += this.#at;
    this.#chunk = EMPTY;
    this.#at = 0;
  }

  /**
   * Tells that nothing follows.
   *
   * @throws {@link NixError} `NIX_NAR_INVALID` when the NAR is cut off.
   */
  end(): void {
    if (this.#state !== 'done') throw this.#invalid('it ends here, too early', this.offset);
  }

  /** Consumes what it can for one state; false when more input is needed. */
  #step(): boolean {
    const state = this.#state;
    this.#stepStart = this.offset - this.#partialLength;
    if (state === 'data') return this.#readData();
    if (state === 'padding') return this.#readPadding();
    if (state === 'contents') return this.#readContentsLength();
    if (state === 'name') return this.#readString(MAX_NAME_LENGTH, (name) => this.#acceptName(name));
    if (state === 'target') return this.#readString(MAX_TARGET_LENGTH, (target) => this.#acceptTarget(target));
    if (state !== 'done') return this.#readString(MAX_TAG_LENGTH, (tag) => this.#acceptTag(tag));
    if (this.#at < this.#chunk.length) throw this.#invalid('more bytes follow the end');
    return false;
  }

  #acceptTag(tag: Buffer): void {
    const fixed = FIXED[this.#state];
    if (fixed !== undefined) {
      const [expected, next] = fixed;
      if (!tag.equals(expected)) throw this.#unexpected(tag, JSON.stringify(expected.toString()));
      if (this.#state === 'node' && this.#lastNames.length >= MAX_DEPTH) {
        throw this.#invalid(`it is nested deeper than ${MAX_DEPTH} levels`);
      }
      this.#state = next;
      return;
    }
    const word = tag.toString('latin1');
    if (this.#state === 'type') this.#acceptType(word, tag);
    else if (this.#state === 'file-tag') this.#acceptFileTag(word, tag);
    else if (this.#state === 'node-end') {
      if (word !== ')') throw this.#unexpected(tag, '")"');
      this.#endNode();
    } else if (word === 'entry') this.#state = 'entry';
    else if (word === ')') {
      this.#lastNames.pop();
      this.#visitor.directoryEnd();
      this.#endNode();
    } else throw this.#unexpected(tag, '"entry" or ")"');
  }

  #acceptType(word: string, tag: Buffer): void {
    this.#executable = false;
    if (word === 'regular') this.#state = 'file-tag';
    else if (word === 'symlink') this.#state = 'target-tag';
    else if (word === 'directory') {
      this.#visitor.directory(this.#name);
      this.#lastNames.push(EMPTY);
      this.#state = 'entry-or-end';
    } else throw this.#unexpected(tag, '"regular", "symlink" or "directory"');
  }

  #acceptFileTag(word: string, tag: Buffer): void {
    if (word === 'executable') {
      this.#executable = true;
      this.#state = 'executable';
    } else if (word === 'contents') this.#state = 'contents';
    else throw this.#unexpected(tag, '"executable" or "contents"');
  }

  #acceptName(name: Buffer): void {
    const fault = nameFault(name);
    if (fault !== undefined) throw this.#invalid(`the name ${quote(name)} ${fault}`);
    const last = this.#lastNames.at(-1) ?? EMPTY;
    const order = Buffer.compare(last, name);
    if (order === 0) throw this.#invalid(`the name ${quote(name)} appears twice`);
    if (order > 0) throw this.#invalid(`the name ${quote(name)} comes after ${quote(last)}`);
    // A copy: the view would keep its whole chunk alive, or change with the next string.
    this.#name = Buffer.from(name);
    this.#lastNames[this.#lastNames.length - 1] = this.#name;
    this.#state = 'node-tag';
  }

  #acceptTarget(target: Buffer): void {
    const fault = targetFault(target);
    if (fault !== undefined) throw this.#invalid(`the link target ${quote(target)} ${fault}`);
    this.#visitor.symlink(this.#name, Buffer.from(target));
    this.#state = 'node-end';
  }

  #endNode(): void {
    this.#state = this.#lastNames.length === 0 ? 'done' : 'entry-end';
  }

  #readContentsLength(): boolean {
    const header = this.#take(8);
    if (header === undefined) return false;
    const size = readLength(header);
    const room = this.#maxSize - this.offset;
    if (size === undefined || size > room) {
      if (size === undefined || this.#maxSize === Number.MAX_SAFE_INTEGER)
        throw this.#invalid('a file is impossibly large');
      throw this.#tooLarge();
    }
    this.#visitor.file(this.#name, { executable: this.#executable, size, offset: this.offset });
    this.#left = size;
    this.#padding = paddingOf(size);
    this.#state = 'data';
    return true;
  }

  #readData(): boolean {
    const length = Math.min(this.#left, this.#chunk.length - this.#at);
    if (length > 0) {
      const bytes = this.#chunk.subarray(this.#at, this.#at + length);
      this.#at += length;
      this.#left -= length;
      this.#visitor.data(bytes);
    }
    if (this.#left > 0) return false;
    this.#visitor.fileEnd();
    this.#left = this.#padding;
    this.#state = 'padding';
    return true;
  }

  #readPadding(): boolean {
    while (this.#left > 0) {
      if (this.#at >= this.#chunk.length) return false;
      if (this.#chunk[this.#at] !== 0) throw this.#invalid('padding is not zero', this.offset);
      this.#at++;
      this.#left--;
    }
    this.#state = 'node-end';
    return true;
  }

  /** Hands one whole string to `accept`; false when it is not all there yet. */
  #readString(maxLength: number, accept: (string: Buffer) => void): boolean {
    const header = this.#peek(8);
    if (header === undefined) return false;
    const length = readLength(header);
    if (length === undefined || length > maxLength) throw this.#invalid(`a string is longer than ${maxLength} bytes`);
    const bytes = this.#take(8 + length + paddingOf(length));
    if (bytes === undefined) return false;
    for (let at = 8 + length; at < bytes.length; at++) {
      if (bytes[at] !== 0) throw this.#invalid('padding is not zero');
    }
    accept(bytes.subarray(8, 8 + length));
    return true;
  }

  /** The next `length` bytes without moving on; undefined when the input has fewer, which are then kept. */
  #peek(length: number): Buffer | undefined {
    if (this.#partialLength === 0) {
      if (this.#chunk.length - this.#at >= length) return this.#chunk.subarray(this.#at, this.#at + length);
    }
    this.#keep(length);
    return this.#partialLength < length ? undefined : this.#partial.subarray(0, length);
  }

  #take(length: number): Buffer | undefined {
    const bytes = this.#peek(length);
    if (bytes === undefined) return undefined;
    if (this.#partialLength === 0) this.#at += length;
    else this.#partialLength = 0;
    return bytes;
  }

  /** Moves input to the partial string until that has `length` bytes. */
  #keep(length: number): void {
    const wanted = Math.min(length - this.#partialLength, this.#chunk.length - this.#at);
    if (wanted <= 0) return;
    this.#chunk.copy(this.#partial, this.#partialLength, this.#at, this.#at + wanted);
    this.#partialLength += wanted;
    this.#at += wanted;
  }

  #unexpected(found: Buffer, expected: string): NixError {
    return this.#invalid(`found ${quote(found)}, expected ${expected}`);
  }

  #invalid(why: string, offset = this.#stepStart): NixError {
    return new NixError('NIX_NAR_INVALID', `Cannot read the NAR of "${this.#origin}": at byte ${offset}, ${why}`, {
      offset,
    });
  }

  #tooLarge(): NixError {
    return new NixError(
      'NIX_NAR_SIZE_MISMATCH',
      `Cannot read the NAR of "${this.#origin}": it is larger than the expected ${this.#maxSize} bytes`,
    );
  }
}

/** A 64-bit little-endian length, or undefined beyond what a double counts exactly. */
function readLength(header: Buffer): number | undefined {
  const high = header.readUInt32LE(4);
  return high >= 0x200000 ? undefined : high * 0x1_0000_0000 + header.readUInt32LE(0);
}

function quote(bytes: Buffer): string {
  return JSON.stringify(bytes.length > 64 ? `${bytes.toString('utf8', 0, 64)}…` : bytes.toString());
}
