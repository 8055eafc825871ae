import { hkdfSync } from 'node:crypto';
import { fromSeed, type KeyPair } from '@nats-io/nkeys';
import type { Holder } from './minter.ts';

/** First two bytes of the seed of a user key: they make the text begin with `SU`. */
const USER_SEED_PREFIX = [0x95, 0x00];
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/**
 * The user key of a nexlet or workload, derived from the key that signs for it. So each keeps its user when its JWT is
 * renewed, and every node that has the signing key knows whom to revoke, without anything being written down. Who has
 * a derived key learns nothing of the signing key or of other users.
 */
export function derivedUser(signingSeed: string, holder: Holder): KeyPair {
  const who = holder.kind === 'agent' ? `agent ${holder.nodeId} ${holder.id}` : `workload ${holder.id}`;
  const raw = Buffer.from(hkdfSync('sha256', signingSeed, '', `nex-nix user: ${who}`, 32));
  return fromSeed(new TextEncoder().encode(userSeed(raw)));
}

/** Text of a seed: prefix, 32 bytes and their checksum (little endian) in base 32. Source: nkeys `strkey`. */
function userSeed(raw: Buffer): string {
  const body = Buffer.from([...USER_SEED_PREFIX, ...raw]);
  const checksum = crc16(body);
  return base32(Buffer.from([...body, checksum & 0xff, checksum >> 8]));
}

/** CRC-16/XMODEM. */
function crc16(bytes: Buffer): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000) === 0 ? crc << 1 : (crc << 1) ^ 0x1021;
    crc &= 0xffff;
  }
  return crc;
}

/** RFC 4648, without padding. */
function base32(bytes: Buffer): string {
  let text = '';
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    for (bits += 8; bits >= 5; bits -= 5) text += ALPHABET[(held >> (bits - 5)) & 31];
    held &= (1 << bits) - 1;
  }
  return bits === 0 ? text : text + ALPHABET[(held << (5 - bits)) & 31];
}
