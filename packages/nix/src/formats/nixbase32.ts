import { NixError } from '../nix-error.ts';
import { quoteText } from './quote-text.ts';

const ALPHABET = '0123456789abcdfghijklmnpqrsvwxyz';
const FOREIGN = new RegExp(`[^${ALPHABET}]`);

/** Number of symbols that `bytes` bytes take. */
export function nixBase32Length(bytes: number): number {
  return Math.ceil((bytes * 8) / 5);
}

/**
 * Nix's own base 32: no `e o u t`, no padding, last bytes first.
 * Source of the format: Nix manual, "Nix32 encoding".
 */
export function encodeNixBase32(bytes: Uint8Array): string {
  let text = '';
  for (let n = nixBase32Length(bytes.length) - 1; n >= 0; n--) {
    const bit = n * 5;
    const low = (bytes[bit >> 3] ?? 0) >> (bit & 7);
    const high = (bytes[(bit >> 3) + 1] ?? 0) << (8 - (bit & 7));
    text += ALPHABET.charAt((low | high) & 31);
  }
  return text;
}

/**
 * The bytes that {@link encodeNixBase32} made `text` of.
 *
 * @throws {@link NixError} `NIX_BASE32_INVALID` for a foreign symbol, an impossible length or bits beyond the last byte.
 */
export function decodeNixBase32(text: string): Uint8Array {
  const bytes = new Uint8Array(Math.floor((text.length * 5) / 8));
  const invalid = (why: string, offset?: number) =>
    new NixError('NIX_BASE32_INVALID', `Cannot decode the nixbase32 ${quoteText(text)}: ${why}`, { offset });
  if (nixBase32Length(bytes.length) !== text.length) throw invalid(`no value has ${text.length} symbols`);
  const foreign = text.search(FOREIGN);
  if (foreign !== -1) {
    throw invalid(
      `position ${foreign} is ${JSON.stringify(text.charAt(foreign))}, expected one of ${ALPHABET}`,
      foreign,
    );
  }
  for (let n = 0; n < text.length; n++) {
    const position = text.length - 1 - n;
    const symbol = text.charAt(position);
    const value = ALPHABET.indexOf(symbol);
    const bit = n * 5;
    const at = bit >> 3;
    const shifted = value << (bit & 7);
    bytes[at] = (bytes[at] ?? 0) | (shifted & 0xff);
    const carry = shifted >> 8;
    if (carry === 0) continue;
    if (at + 1 >= bytes.length)
      throw invalid(`"${symbol}" at position ${position} has bits beyond the last byte`, position);
    bytes[at + 1] = (bytes[at + 1] ?? 0) | carry;
  }
  return bytes;
}
