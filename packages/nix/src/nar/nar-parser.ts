import { NixError } from '../nix-error.ts';
import { ByteInput } from './byte-input.ts';
import {
  MAX_DEPTH,
  MAX_NAME_LENGTH,
  MAX_TAG_LENGTH,
  MAX_TARGET_LENGTH,
  NAR_MAGIC,
  nameFault,
  narStrings,
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

/** What nearly every entry, file and end of an entry consists of. */
const USUAL_ENTRY = narStrings('entry', '(', 'name');
const USUAL_FILE = narStrings('node', '(', 'type', 'regular', 'contents');
const USUAL_END = narStrings(')', ')');

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

  readonly #input = new ByteInput(8 + MAX_TARGET_LENGTH + 8);
  /** Where what is being read began, for the errors. */
  #stepStart = 0;

  constructor(visitor: NarVisitor, options: NarParserOptions = {}) {
    this.#visitor = visitor;
    this.#maxSize = options.maxSize ?? Number.MAX_SAFE_INTEGER;
    this.#origin = options.origin ?? 'NAR';
  }

  /** Bytes read so far. */
  get offset(): number {
    return this.#input.seen;
  }

  /**
   * Reads the next piece of the NAR.
   *
   * @throws {@link NixError} `NIX_NAR_INVALID`, or `NIX_NAR_SIZE_MISMATCH` beyond `maxSize`.
   */
  write(bytes: Uint8Array): void {
    if (this.offset + bytes.length > this.#maxSize) throw this.#tooLarge();
    this.#input.push(bytes);
    while (this.#step());
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
    this.#skipUsual();
    this.#stepStart = this.#input.position;
    const state = this.#state;
    if (state === 'data') return this.#readData();
    if (state === 'padding') return this.#readPadding();
    if (state === 'contents') return this.#readContentsLength();
    if (state === 'name') return this.#readString(MAX_NAME_LENGTH);
    if (state === 'target') return this.#readString(MAX_TARGET_LENGTH);
    if (state !== 'done') return this.#readString(MAX_TAG_LENGTH);
    if (!this.#input.isEmpty) throw this.#invalid('more bytes follow the end');
    return false;
  }

  /** Takes several strings at once where they are the usual ones; what is wrong with others is found string by string. */
  #skipUsual(): void {
    if (this.#state === 'entry-or-end') {
      if (this.#input.skip(USUAL_ENTRY)) this.#state = 'name';
    } else if (this.#state === 'node-tag') {
      if (this.#lastNames.length >= MAX_DEPTH || !this.#input.skip(USUAL_FILE)) return;
      this.#executable = false;
      this.#state = 'contents';
    } else if (this.#state === 'node-end') {
      if (this.#lastNames.length > 0 && this.#input.skip(USUAL_END)) this.#state = 'entry-or-end';
    }
  }

  #acceptString(string: Buffer): void {
    if (this.#state === 'name') this.#acceptName(string);
    else if (this.#state === 'target') this.#acceptTarget(string);
    else this.#acceptTag(string);
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
    if (!this.#input.has(8)) return false;
    const size = this.#input.peekNumber();
    this.#input.drop(8);
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
    if (this.#left > 0) {
      const bytes = this.#input.takeSome(this.#left);
      this.#left -= bytes.length;
      if (bytes.length > 0) this.#visitor.data(bytes);
      if (this.#left > 0) return false;
    }
    this.#visitor.fileEnd();
    this.#left = this.#padding;
    this.#state = 'padding';
    return true;
  }

  #readPadding(): boolean {
    this.#left -= this.#input.dropZeros(this.#left);
    if (this.#left > 0) {
      if (this.#input.isEmpty) return false;
      throw this.#invalid('padding is not zero', this.offset);
    }
    this.#state = 'node-end';
    return true;
  }

  /** Accepts one whole string; false when it is not all there yet. */
  #readString(maxLength: number): boolean {
    const input = this.#input;
    if (!input.has(8)) return false;
    const length = input.peekNumber();
    if (length === undefined || length > maxLength) throw this.#invalid(`a string is longer than ${maxLength} bytes`);
    const end = 8 + length + paddingOf(length);
    if (!input.has(end)) return false;
    for (let at = 8 + length; at < end; at++) {
      if (input.peek(at) !== 0) throw this.#invalid('padding is not zero', this.#stepStart + at);
    }
    this.#acceptString(input.take(end, 8, 8 + length));
    return true;
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

function quote(bytes: Buffer): string {
  return JSON.stringify(bytes.length > 64 ? `${bytes.toString('utf8', 0, 64)}…` : bytes.toString());
}
