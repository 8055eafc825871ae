const INITIAL_SIZE = 16 * 1024;

/** How operations lie one after the other: a header of little-endian numbers, then the name; a link's target instead of contents. */
export const OPERATION_FORMAT = {
  /** By the code that is the first byte. */
  names: ['makeDirectory', 'enter', 'symlink', 'file', 'data', 'fileEnd', 'sealDirectory'],
  /** Permissions, 2 bytes. */
  modeAt: 1,
  /** Length of the name, 2 bytes. */
  nameLengthAt: 3,
  /** Length of the target after the name, 2 bytes. */
  targetLengthAt: 5,
  /** Where in the block of the NAR contents begin and how long they are, 4 bytes each. */
  dataStartAt: 7,
  dataLengthAt: 11,
  /** How much must be done elsewhere before it, 4 bytes. */
  afterAt: 15,
  headerSize: 19,
} as const;

export type OperationFormat = typeof OPERATION_FORMAT;

/** What an operation is about; absent is nothing. */
export interface Operands {
  readonly name?: Uint8Array;
  readonly mode?: number;
  readonly target?: Uint8Array;
  readonly dataStart?: number;
  readonly dataLength?: number;
  readonly after?: number;
}

/** Collects what is to be done on disk to make a tree. */
export class TreeOperations {
  #bytes = Buffer.allocUnsafeSlow(INITIAL_SIZE);
  #used = 0;
  /** How many there are. */
  count = 0;

  add(operation: OperationFormat['names'][number], operands: Operands = {}): void {
    const { name, target } = operands;
    const nameLength = name?.length ?? 0;
    const targetLength = target?.length ?? 0;
    const format = OPERATION_FORMAT;
    const start = this.#used;
    this.#used += format.headerSize + nameLength + targetLength;
    if (this.#used > this.#bytes.length) this.#grow(start);
    const bytes = this.#bytes;
    bytes[start] = format.names.indexOf(operation);
    bytes.writeUInt16LE(operands.mode ?? 0, start + format.modeAt);
    bytes.writeUInt16LE(nameLength, start + format.nameLengthAt);
    bytes.writeUInt16LE(targetLength, start + format.targetLengthAt);
    bytes.writeUInt32LE(operands.dataStart ?? 0, start + format.dataStartAt);
    bytes.writeUInt32LE(operands.dataLength ?? 0, start + format.dataLengthAt);
    bytes.writeUInt32LE(operands.after ?? 0, start + format.afterAt);
    if (name !== undefined) bytes.set(name, start + format.headerSize);
    if (target !== undefined) bytes.set(target, start + format.headerSize + nameLength);
    this.count++;
  }

  /** A copy of what was collected; begins anew. */
  take(): Uint8Array {
    const taken = Uint8Array.prototype.slice.call(this.#bytes, 0, this.#used);
    this.#used = 0;
    this.count = 0;
    return taken;
  }

  #grow(used: number): void {
    const bytes = Buffer.allocUnsafeSlow(2 * Math.max(this.#bytes.length, this.#used));
    this.#bytes.copy(bytes, 0, 0, used);
    this.#bytes = bytes;
  }
}
