/** One bit for each answer, the first in the lowest bit of the first byte. */
export function packBits(bits: readonly boolean[]): Uint8Array {
  const packed = new Uint8Array(Math.ceil(bits.length / 8));
  for (const [i, bit] of bits.entries()) {
    if (bit) packed[i >> 3] = (packed[i >> 3] ?? 0) | (1 << (i & 7));
  }
  return packed;
}

/** The first `count` bits of what {@link packBits} made, or undefined when there are not as many bytes as that takes. */
export function unpackBits(packed: Uint8Array, count: number): boolean[] | undefined {
  if (packed.length !== Math.ceil(count / 8)) return undefined;
  return Array.from({ length: count }, (_, i) => (((packed[i >> 3] ?? 0) >> (i & 7)) & 1) === 1);
}
