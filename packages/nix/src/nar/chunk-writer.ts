import { readSync } from 'node:fs';
import { MAX_NAME_LENGTH, MAX_TARGET_LENGTH, NAR_MAGIC, narStrings, paddingOf } from './nar-format.ts';

const CHUNK_SIZE = 1024 * 1024;
/** The first chunk is smaller: most paths are, and a buffer costs what it could hold. Reused ones stay in the processor's cache. */
const SMALL_CHUNK_SIZE = 256 * 1024;
/** More than everything that is written between two looks at the space left, file contents aside. */
const HEADER_MAX = MAX_NAME_LENGTH + MAX_TARGET_LENGTH + 1024;

const MAGIC = narStrings(NAR_MAGIC);
const ENTRY = narStrings('entry', '(', 'name');
const NODE = narStrings('node');
const CLOSE = narStrings(')');
const DIRECTORY = narStrings('(', 'type', 'directory');
const SYMLINK = narStrings('(', 'type', 'symlink', 'target');
const REGULAR = narStrings('(', 'type', 'regular', 'contents');
const EXECUTABLE = narStrings('(', 'type', 'regular', 'executable', '', 'contents');

/**
 * Writes the grammar of NARs into chunks. Whoever writes sees to order and names, takes a chunk when
 * {@link isFull} before each node, and takes one whenever no {@link space} is left for contents.
 */
export class ChunkWriter {
  readonly #reuse: boolean;
  #buffer = Buffer.allocUnsafeSlow(SMALL_CHUNK_SIZE);
  #used = 0;

  /** With `reuse` every chunk is the same memory: it may be used only until the next is taken. */
  constructor({ reuse }: { reuse: boolean }) {
    this.#reuse = reuse;
    this.#write(MAGIC);
  }

  /** Bytes of contents that the chunk can still take. */
  get space(): number {
    return this.#buffer.length - this.#used;
  }

  /** Whether the chunk must be taken before another node, entry or end is written. */
  get isFull(): boolean {
    return this.space < HEADER_MAX;
  }

  get isEmpty(): boolean {
    return this.#used === 0;
  }

  take(): Buffer {
    const chunk = this.#buffer.subarray(0, this.#used);
    if (!this.#reuse) this.#buffer = Buffer.allocUnsafeSlow(CHUNK_SIZE);
    this.#used = 0;
    return chunk;
  }

  beginDirectory(): void {
    this.#write(DIRECTORY);
  }

  beginEntry(name: Uint8Array): void {
    this.#write(ENTRY);
    this.#writeString(name);
    this.#write(NODE);
  }

  /** Ends a directory or an entry. */
  end(): void {
    this.#write(CLOSE);
  }

  symlink(target: Uint8Array): void {
    this.#write(SYMLINK);
    this.#writeString(target);
    this.#write(CLOSE);
  }

  /** Contents of `size` bytes must follow, then {@link endFile}. */
  beginFile({ executable, size }: { executable: boolean; size: number }): void {
    this.#write(executable ? EXECUTABLE : REGULAR);
    this.#writeLength(size);
  }

  endFile(size: number): void {
    this.#writeZeros(paddingOf(size));
    this.#write(CLOSE);
  }

  /** Contents from `bytes`, as many as there is space for; how many that were. */
  writeContents(bytes: Uint8Array): number {
    const part = bytes.length <= this.space ? bytes : bytes.subarray(0, this.space);
    this.#write(part);
    return part.length;
  }

  /** Contents from a file, at most `length` bytes and what there is space for; how many that were, 0 at its end. */
  readContents(fd: number, length: number): number {
    const read = readSync(fd, this.#buffer, this.#used, Math.min(length, this.space), null);
    this.#used += read;
    return read;
  }

  #write(bytes: Uint8Array): void {
    this.#buffer.set(bytes, this.#used);
    this.#used += bytes.length;
  }

  #writeString(bytes: Uint8Array): void {
    this.#writeLength(bytes.length);
    this.#write(bytes);
    this.#writeZeros(paddingOf(bytes.length));
  }

  #writeLength(length: number): void {
    this.#used = this.#buffer.writeUInt32LE(length % 0x1_0000_0000, this.#used);
    this.#used = this.#buffer.writeUInt32LE(Math.floor(length / 0x1_0000_0000), this.#used);
  }

  #writeZeros(count: number): void {
    this.#buffer.fill(0, this.#used, this.#used + count);
    this.#used += count;
  }
}
