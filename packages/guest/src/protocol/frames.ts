import { crc32 } from 'node:zlib';
import { GuestError } from '../guest-error.ts';
import { type GuestMessage, type HostMessage, MAX_HOST_PAYLOAD, MAX_PAYLOAD, type Output } from './messages.ts';

/** First bytes of a frame. No text in UTF-8 has the byte 0xff, so that one of these never begins within a message. */
export const MAGIC = Buffer.from([0xff, 0x6e, 0x78, 0xfe]);

/** Magic, kind, three zeros, length of the payload, CRC-32 of all that but the magic; numbers are big-endian. */
export const HEADER = 16;

/** Position of the first byte of an output frame, before the bytes themselves. */
export const OUTPUT_HEADER = 8;

/** What is in a frame. */
export const KIND = { message: 1, stdout: 2, stderr: 3 } as const;

/**
 * A message as a frame.
 *
 * @throws GuestError GUEST_PROTOCOL when it is longer than `limit`: `MAX_PAYLOAD` for a guest, `MAX_HOST_PAYLOAD` for a host
 */
export function encodeMessage(message: HostMessage | GuestMessage, limit: number): Buffer {
  const payload = Buffer.from(JSON.stringify(message));
  if (payload.length > limit) throw tooLong(`a message "${message.type}"`, payload.length, limit);
  return encode(KIND.message, [payload]);
}

/** A message of the host as a frame. */
export function encodeHostMessage(message: HostMessage): Buffer {
  return encodeMessage(message, MAX_HOST_PAYLOAD);
}

/** A message of the guest as a frame. */
export function encodeGuestMessage(message: GuestMessage): Buffer {
  return encodeMessage(message, MAX_PAYLOAD);
}

/** Output as a frame. Throws GUEST_PROTOCOL when there is none, or more than fits. */
export function encodeOutput({ stream, position, bytes }: Output): Buffer {
  if (bytes.length === 0 || OUTPUT_HEADER + bytes.length > MAX_PAYLOAD) {
    throw tooLong('output', OUTPUT_HEADER + bytes.length, MAX_PAYLOAD);
  }
  const place = Buffer.alloc(OUTPUT_HEADER);
  place.writeBigUInt64BE(BigInt(position));
  return encode(KIND[stream], [place, bytes]);
}

/** The checksum of a frame that begins with this header. */
export function checksum(header: Uint8Array, payload: Uint8Array): number {
  return crc32(payload, crc32(header.subarray(MAGIC.length, HEADER - 4)));
}

function encode(kind: number, parts: readonly Uint8Array[]): Buffer {
  const header = Buffer.alloc(HEADER);
  MAGIC.copy(header);
  header.writeUInt8(kind, 4);
  const frame = Buffer.concat([header, ...parts]);
  frame.writeUInt32BE(frame.length - HEADER, 8);
  frame.writeUInt32BE(checksum(frame.subarray(0, HEADER), frame.subarray(HEADER)), 12);
  return frame;
}

function tooLong(what: string, length: number, limit: number): GuestError {
  return new GuestError('GUEST_PROTOCOL', `Cannot send ${what} of ${length} bytes: expected 1 to ${limit}`);
}
