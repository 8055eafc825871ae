import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Frame, FrameDecoder } from './frame-decoder.ts';
import {
  checksum,
  encodeGuestMessage,
  encodeHostMessage,
  encodeMessage,
  encodeOutput,
  HEADER,
  MAGIC,
} from './frames.ts';
import { MAX_PAYLOAD, type Output, type Welcome } from './messages.ts';

const SESSION = 'e7a9c1d0-5b7c-4a39-9a53-3d1c0d9b7f11';
const WELCOME: Welcome = {
  type: 'welcome',
  version: 1,
  session: SESSION,
  agent: '0.1.0',
  boot: 'b',
  state: 'idle',
  from: { stdout: 0, stderr: 0 },
};
const first = encodeGuestMessage(WELCOME);
const hello = (n: number) =>
  encodeHostMessage({ type: 'hello', versions: [n], session: SESSION, have: { stdout: 0, stderr: 0 } });

function fromGuest(): FrameDecoder {
  return new FrameDecoder({ sender: 'guest', mark: SESSION });
}

function fromHost(): FrameDecoder {
  return new FrameDecoder({ sender: 'host', mark: '"type":"hello"' });
}

/** All frames of bytes that come in pieces of these sizes, in turns. */
function decode(decoder: FrameDecoder, bytes: Buffer, sizes: readonly number[] = [bytes.length]): Frame[] {
  const frames: Frame[] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1;
    frames.push(...decoder.push(bytes.subarray(at, at + size)));
    at += size;
  }
  return frames;
}

const valuesOf = (frames: readonly Frame[]) => frames.map((frame) => (frame.kind === 'message' ? frame.value : frame));

/** A frame with some bytes replaced, and with the right checksum. */
function altered(frame: Buffer, at: number, bytes: readonly number[]): Buffer {
  const copy = Buffer.from(frame);
  copy.set(bytes, at);
  copy.writeUInt32BE(checksum(copy.subarray(0, HEADER), copy.subarray(HEADER)), 12);
  return copy;
}

const output = fc.record({
  stream: fc.constantFrom('stdout' as const, 'stderr' as const),
  position: fc.nat(Number.MAX_SAFE_INTEGER),
  bytes: fc.uint8Array({ minLength: 1, maxLength: 3000 }),
});
const sizes = fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 6 });

describe('frames', () => {
  it('are the same wherever the bytes are cut', () => {
    const property = fc.property(fc.array(fc.oneof(output, fc.string()), { maxLength: 12 }), sizes, (items, cuts) => {
      const frames = items.map((item) =>
        typeof item === 'string'
          ? encodeGuestMessage({ type: 'answer', id: 1, value: item })
          : encodeOutput(item as Output),
      );
      const [welcome, ...others] = decode(fromGuest(), Buffer.concat([first, ...frames]), cuts);
      expect(welcome).toEqual({ kind: 'message', value: WELCOME });
      expect(others.map((frame) => (frame.kind === 'output' ? frame.output : frame.value))).toEqual(
        items.map((item) =>
          typeof item === 'string'
            ? { type: 'answer', id: 1, value: item }
            : { ...item, bytes: Buffer.from(item.bytes) },
        ),
      );
    });
    fc.assert(property, { numRuns: 150 });
  });

  it('are found behind whatever an earlier host has left, a forged beginning of a frame included', () => {
    const forged = altered(first, 8, [0, 0, 15, 255]).subarray(0, HEADER);
    const other = encodeGuestMessage({ ...WELCOME, session: 'another' });
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 6000 }).map((bytes) => Buffer.from(bytes)),
      fc.constantFrom(MAGIC, forged, other, other.subarray(0, 40)),
    );
    const property = fc.property(fc.array(piece, { maxLength: 8 }), sizes, (garbage, cuts) => {
      const last = encodeOutput({ stream: 'stdout', position: 0, bytes: Buffer.from('x') });
      const frames = decode(fromGuest(), Buffer.concat([...garbage, first, last]), cuts);
      expect(frames.map(({ kind }) => kind)).toEqual(['message', 'output']);
      expect(valuesOf(frames)[0]).toEqual(WELCOME);
    });
    fc.assert(property, { numRuns: 150 });
  });

  it('of a guest are not looked for without end', () => {
    const decoder = fromGuest();
    const garbage = Buffer.alloc(1024 * 1024, MAGIC);
    expect(() => {
      for (let i = 0; i < 9; i++) decode(decoder, garbage);
    }).toThrow(expect.objectContaining({ code: 'GUEST_PROTOCOL', message: expect.stringContaining('no answer') }));
  });

  it('of a host that was cut off anywhere do not hide the next host', () => {
    const old = encodeHostMessage({ type: 'prepare', id: 7, closure: [], tmp: 1_000_000 });
    for (let cut = 0; cut <= old.length; cut++) {
      const decoder = fromHost();
      const ping = encodeHostMessage({ type: 'ping', id: 1 });
      // The second `hello`: where a header was cut off, the first one may be taken for the rest of it.
      const bytes = Buffer.concat([hello(1), old.subarray(0, cut), hello(2), hello(3), ping]);
      const seen = valuesOf(decode(decoder, bytes, [33]));
      expect(seen.at(-1), `cut at ${cut}`).toEqual({ type: 'ping', id: 1 });
      expect(seen.filter((value) => (value as { type: string }).type === 'hello').length).toBeGreaterThanOrEqual(2);
    }
  });

  it('of a guest have to be what they claim, from the first one on', () => {
    const answer = encodeGuestMessage({ type: 'answer', id: 1, value: {} });
    const said = encodeOutput({ stream: 'stderr', position: 5, bytes: Buffer.from('abc') });
    const flipped = Buffer.from(said);
    flipped.writeUInt8(0x40, HEADER + 9);
    const wrong: Record<string, [Buffer, string]> = {
      'other magic': [altered(answer, 0, [0xff, 0x6e, 0x78, 0xff]), 'it does not begin as one'],
      'unknown kind': [altered(answer, 4, [4]), 'its kind is 4'],
      'no zero': [altered(answer, 6, [1]), 'what has to be zero'],
      'nothing in it': [altered(answer, 8, [0, 0, 0, 0]), 'its length is 0'],
      'output without bytes': [altered(said, 8, [0, 0, 0, 8]), 'its length is 8'],
      'more than there may be': [altered(answer, 8, [0, 4, 0, 1]), `its length is ${MAX_PAYLOAD + 1}`],
      'another byte': [flipped, 'its checksum is another one'],
      'no JSON': [altered(answer, HEADER, [0x5d]), 'neither JSON nor output'],
      'no UTF-8': [altered(answer, HEADER + 10, [0xc3, 0x28]), 'neither JSON nor output'],
      'a position beyond all numbers': [altered(said, HEADER, [0x7f]), 'neither JSON nor output'],
      'garbage between frames': [Buffer.from('some console output'), 'it does not begin as one'],
    };
    for (const [name, [frame, problem]] of Object.entries(wrong)) {
      const bytes = Buffer.concat([first, answer, frame]);
      expect(() => decode(fromGuest(), bytes, [7]), name).toThrow(
        expect.objectContaining({
          code: 'GUEST_PROTOCOL',
          message: expect.stringMatching(new RegExp(`at byte ${first.length + answer.length} .*${problem}`)),
        }),
      );
    }
  });

  it('of a host have no output', () => {
    const frames = decode(
      fromHost(),
      Buffer.concat([hello(1), encodeOutput({ stream: 'stdout', position: 0, bytes: Buffer.from('x') }), hello(2)]),
    );
    expect(frames.map(({ kind }) => kind)).toEqual(['message', 'message']);
  });

  it('are not made too long', () => {
    const output = (length: number) => ({ stream: 'stdout' as const, position: 0, bytes: Buffer.alloc(length) });
    expect(encodeOutput(output(MAX_PAYLOAD - 8)).length).toBe(HEADER + MAX_PAYLOAD);
    for (const length of [0, MAX_PAYLOAD - 7]) {
      expect(() => encodeOutput(output(length))).toThrow(expect.objectContaining({ code: 'GUEST_PROTOCOL' }));
    }
    const message = { type: 'answer' as const, id: 1, value: 'x'.repeat(100) };
    expect(() => encodeMessage(message, 50)).toThrow('Cannot send a message "answer" of');
  });

  it('take memory for one of them, however small the pieces', () => {
    const long = encodeGuestMessage({ type: 'answer', id: 1, value: 'x'.repeat(MAX_PAYLOAD - 60) });
    const frames = decode(fromGuest(), Buffer.concat([first, long, long, long]), [3]);
    expect(frames).toHaveLength(4);
  });
});
