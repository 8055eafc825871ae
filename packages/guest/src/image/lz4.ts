/** Begins an LZ4 stream of the old format, the one that kernels are compressed with. */
export const LZ4_LEGACY_MAGIC = 0x184c2102;
/** Highest size of one block of the old format when it is unpacked. */
const BLOCK = 8 * 1024 * 1024;

/**
 * Unpacks LZ4 of the old format (`lz4 -l`): the magic number, then blocks, each after its length. What follows the last
 * whole block is left alone: kernels have their size there.
 *
 * @throws RangeError when it is damaged
 */
export function unpackLz4Legacy(packed: Buffer): Buffer {
  const blocks: Buffer[] = [];
  let at = 4;
  while (at + 4 <= packed.length) {
    const length = packed.readUInt32LE(at);
    if (length === LZ4_LEGACY_MAGIC) {
      at += 4;
      continue;
    }
    if (length === 0 || at + 4 + length > packed.length) break;
    blocks.push(unpackBlock(packed.subarray(at + 4, at + 4 + length)));
    at += 4 + length;
  }
  return Buffer.concat(blocks);
}

/** One block: sequences of literals and of copies out of what was unpacked before. */
function unpackBlock(block: Buffer): Buffer {
  const out = Buffer.allocUnsafe(BLOCK);
  let read = 0;
  let written = 0;
  const byte = (): number => {
    const value = block[read++];
    if (value === undefined) throw new RangeError('it ends in the middle of a sequence');
    return value;
  };
  const extended = (nibble: number): number => {
    let length = nibble;
    if (nibble === 15) {
      for (let more = 255; more === 255; length += more) more = byte();
    }
    return length;
  };
  for (;;) {
    const token = byte();
    const literals = extended(token >> 4);
    if (read + literals > block.length || written + literals > BLOCK)
      throw new RangeError('literals go beyond its end');
    block.copy(out, written, read, read + literals);
    read += literals;
    written += literals;
    // The last sequence has literals only.
    if (read === block.length) return out.subarray(0, written);
    const distance = byte() | (byte() << 8);
    const length = extended(token & 15) + 4;
    const from = written - distance;
    if (distance === 0 || from < 0 || written + length > BLOCK) throw new RangeError('a copy goes beyond its bounds');
    // A copy may overlap what it makes: then it repeats.
    if (distance >= length) out.copyWithin(written, from, from + length);
    else for (let index = 0; index < length; index++) out[written + index] = out[from + index] ?? 0;
    written += length;
  }
}
