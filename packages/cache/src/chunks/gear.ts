import { createHash } from 'node:crypto';

/**
 * The 256 random words of the rolling hash, one a byte value.
 *
 * Word `i` is the big-endian 32-bit word `i mod 8` of `sha256("nex-nix gear1 <floor(i / 8)>")`. The table decides where NARs
 * are cut, so it is part of the storage format: it never changes under the name `gear1`.
 */
export const GEAR: Int32Array = gearTable();

function gearTable(): Int32Array {
  const table = new Int32Array(256);
  for (let block = 0; block < 32; block++) {
    const digest = createHash('sha256').update(`nex-nix gear1 ${block}`).digest();
    for (let word = 0; word < 8; word++) table[block * 8 + word] = digest.readInt32BE(word * 4);
  }
  return table;
}
