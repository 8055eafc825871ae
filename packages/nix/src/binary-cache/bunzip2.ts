import { BitInput, type BitReader, Bzip2Error } from './bit-input.ts';

const STREAM_MAGIC = 0x425a68;
const BLOCK_MAGIC = [0x314159, 0x265359] as const;
const END_MAGIC = [0x177245, 0x385090] as const;
const BLOCK_UNIT = 100_000;
const LEVEL_MAX = 9;
const OUTPUT_SIZE = 256 * 1024;
const CODE_LENGTH_MAX = 20;
const SYMBOLS_PER_SELECTOR = 50;

/**
 * Undoes bzip2: any number of streams in a row, with their checksums, in constant memory.
 * Why it is written here: docs/decisions/0008-own-bzip2-decoder.md.
 * Source of the format: J. Tsai, "BZIP2: Format Specification".
 */
export async function* bunzip2(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  const input = new BitInput(source);
  // One for all blocks: small ones would else cost as much as large ones.
  const allLinks = new Uint32Array(LEVEL_MAX * BLOCK_UNIT);
  do {
    const links = allLinks.subarray(0, (await input.decode(streamLevel)) * BLOCK_UNIT);
    let streamCrc = 0;
    for (;;) {
      const block = await input.decode((bits) => readBlock(bits, links));
      if (block === 'end') break;
      yield* blockContent(block);
      streamCrc = (((streamCrc << 1) | (streamCrc >>> 31)) ^ block.crc) >>> 0;
    }
    const wanted = await input.decode((bits) => bits.read(32));
    if (wanted !== streamCrc) throw new Bzip2Error('the checksum of the stream is wrong');
    input.alignToByte();
  } while (await input.hasMore());
}

function streamLevel(bits: BitReader): number {
  const level = bits.read(24) === STREAM_MAGIC ? bits.read(8) - 0x30 : 0;
  if (level < 1 || level > LEVEL_MAX) throw new Bzip2Error('it is not bzip2');
  return level;
}

/** A block as it was sorted, to be put back in order. */
interface Block {
  readonly crc: number;
  /** Where each symbol stands, and in the low 8 bits which it is. */
  readonly links: Uint32Array;
  readonly size: number;
  readonly start: number;
}

function readBlock(bits: BitReader, links: Uint32Array): Block | 'end' {
  const magic = [bits.read(24), bits.read(24)];
  if (magic[0] === END_MAGIC[0] && magic[1] === END_MAGIC[1]) return 'end';
  if (magic[0] !== BLOCK_MAGIC[0] || magic[1] !== BLOCK_MAGIC[1]) throw new Bzip2Error('a block has no beginning');
  const crc = bits.read(32);
  if (bits.bit() === 1) throw new Bzip2Error('it is of a version before 1.0');
  const origin = bits.read(24);
  const alphabet = readAlphabet(bits);
  const { codes, selectors } = readCodes(bits, alphabet.length + 2);
  const size = readSymbols(bits, { alphabet, codes, selectors, links });
  if (origin >= size) throw new Bzip2Error('a block begins behind its end');
  linkUp(links, size);
  return { crc, links, size, start: origin };
}

function readAlphabet(bits: BitReader): Uint8Array {
  const groups = bits.read(16);
  const alphabet: number[] = [];
  for (let group = 0; group < 16; group++) {
    if (((groups >>> (15 - group)) & 1) === 0) continue;
    const used = bits.read(16);
    for (let symbol = 0; symbol < 16; symbol++) {
      if (((used >>> (15 - symbol)) & 1) === 1) alphabet.push(group * 16 + symbol);
    }
  }
  if (alphabet.length === 0) throw new Bzip2Error('a block has no symbols');
  return Uint8Array.from(alphabet);
}

/** A canonical Huffman code: for each length the greatest code and what leads from a code to its symbol. */
interface Code {
  readonly limits: Int32Array;
  readonly bases: Int32Array;
  readonly symbols: Uint16Array;
}

function readCodes(bits: BitReader, symbolCount: number): { codes: Code[]; selectors: Uint8Array } {
  const codeCount = bits.read(3);
  const selectorCount = bits.read(15);
  if (codeCount < 2 || codeCount > 6 || selectorCount === 0) throw new Bzip2Error('a block has no codes');
  const order = Array.from({ length: codeCount }, (_, code) => code);
  const selectors = new Uint8Array(selectorCount);
  for (let at = 0; at < selectorCount; at++) {
    let index = 0;
    while (bits.bit() === 1) if (++index >= codeCount) throw new Bzip2Error('a block uses a code that it lacks');
    const [selected = 0] = order.splice(index, 1);
    order.unshift(selected);
    selectors[at] = selected;
  }
  return { codes: order.map(() => makeCode(readLengths(bits, symbolCount))), selectors };
}

function readLengths(bits: BitReader, symbolCount: number): Uint8Array {
  const lengths = new Uint8Array(symbolCount);
  let length = bits.read(5);
  for (let symbol = 0; symbol < symbolCount; symbol++) {
    for (;;) {
      if (length < 1 || length > CODE_LENGTH_MAX) throw new Bzip2Error('a code has an impossible length');
      if (bits.bit() === 0) break;
      length += bits.bit() === 0 ? 1 : -1;
    }
    lengths[symbol] = length;
  }
  return lengths;
}

function makeCode(lengths: Uint8Array): Code {
  const limits = new Int32Array(CODE_LENGTH_MAX + 1).fill(-1);
  const bases = new Int32Array(CODE_LENGTH_MAX + 1);
  const symbols = new Uint16Array(lengths.length);
  let next = 0;
  let code = 0;
  for (let length = 1; length <= CODE_LENGTH_MAX; length++) {
    code *= 2;
    bases[length] = next - code;
    for (let symbol = 0; symbol < lengths.length; symbol++) {
      if (lengths[symbol] !== length) continue;
      symbols[next++] = symbol;
      code++;
    }
    if (code > 1 << length) throw new Bzip2Error('a code is ambiguous');
    limits[length] = code - 1;
  }
  return { limits, bases, symbols };
}

function readSymbol(bits: BitReader, { limits, bases, symbols }: Code): number {
  const next = bits.peek20();
  for (let length = 1; length <= CODE_LENGTH_MAX; length++) {
    const code = next >>> (CODE_LENGTH_MAX - length);
    if (code > (limits[length] as number)) continue;
    bits.skip(length);
    const symbol = symbols[code + (bases[length] as number)];
    if (symbol !== undefined) return symbol;
  }
  bits.skip(CODE_LENGTH_MAX);
  throw new Bzip2Error('a block has a code that stands for nothing');
}

interface SymbolSource {
  readonly alphabet: Uint8Array;
  readonly codes: readonly Code[];
  readonly selectors: Uint8Array;
  /** Where they go; its length is what the stream allows. */
  readonly links: Uint32Array;
}

/** The symbols of a block: Huffman codes of run lengths and of places in a list whose last used symbol comes first. */
function readSymbols(bits: BitReader, { alphabet, codes, selectors, links }: SymbolSource): number {
  const recent = Uint8Array.from(alphabet);
  const last = alphabet.length + 1;
  let size = 0;
  let run = 0;
  let runUnit = 1;
  for (let count = 0; ; count++) {
    const code = codes[selectors[Math.floor(count / SYMBOLS_PER_SELECTOR)] ?? -1];
    if (code === undefined) throw new Bzip2Error('a block has more symbols than it says');
    const symbol = readSymbol(bits, code);
    if (symbol <= 1) {
      run += runUnit * (symbol + 1);
      runUnit *= 2;
      // Checked here, for a run length that grows without end would be no number any more.
      if (run > links.length - size) throw new Bzip2Error('a block is larger than its stream allows');
      continue;
    }
    links.fill(recent[0] as number, size, size + run);
    size += run;
    run = 0;
    runUnit = 1;
    if (symbol === last) return size;
    if (size >= links.length) throw new Bzip2Error('a block is larger than its stream allows');
    const value = recent[symbol - 1] as number;
    recent.copyWithin(1, 0, symbol - 1);
    recent[0] = value;
    links[size++] = value;
  }
}

/** Undoes the sorting (Burrows-Wheeler): each place gets the number of the one that follows it. */
function linkUp(links: Uint32Array, size: number): void {
  const starts = new Uint32Array(257);
  const add = (index: number, count: number): number => {
    const before = starts[index] as number;
    starts[index] = before + count;
    return before;
  };
  for (let at = 0; at < size; at++) add(((links[at] as number) & 0xff) + 1, 1);
  for (let symbol = 0; symbol < 256; symbol++) add(symbol + 1, starts[symbol] as number);
  for (let at = 0; at < size; at++) {
    const to = add((links[at] as number) & 0xff, 1);
    links[to] = (links[to] as number) | (at << 8);
  }
}

/** The bytes of a block: four equal ones are followed by how often that byte comes once more. */
function* blockContent({ crc: wanted, links, size, start }: Block): Generator<Uint8Array, void> {
  let output = Buffer.allocUnsafeSlow(OUTPUT_SIZE);
  let filled = 0;
  let crc = 0xffffffff;
  let link = links[start] as number;
  let previous = -1;
  let equal = 0;
  for (let left = size; left > 0; left--) {
    link = links[link >>> 8] as number;
    const byte = link & 0xff;
    const isCount = equal === 4;
    const copies = isCount ? byte : 1;
    const value = isCount ? previous : byte;
    equal = isCount ? 0 : byte === previous ? equal + 1 : 1;
    previous = isCount ? -1 : byte;
    for (let copy = 0; copy < copies; copy++) {
      crc = (crc << 8) ^ (CRC_TABLE[(crc >>> 24) ^ value] as number);
      output[filled++] = value;
      if (filled < OUTPUT_SIZE) continue;
      yield output;
      output = Buffer.allocUnsafeSlow(OUTPUT_SIZE);
      filled = 0;
    }
  }
  if (~crc >>> 0 !== wanted) throw new Bzip2Error('the checksum of a block is wrong');
  if (filled > 0) yield output.subarray(0, filled);
}

/** CRC-32 with the highest bit first, which node:zlib does not have. */
const CRC_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24;
  for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  return crc;
});
