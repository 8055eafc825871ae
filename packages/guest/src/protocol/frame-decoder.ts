import { isUtf8 } from 'node:buffer';
import { GuestError } from '../guest-error.ts';
import { checksum, HEADER, KIND, MAGIC, OUTPUT_HEADER } from './frames.ts';
import { MAX_HOST_PAYLOAD, MAX_PAYLOAD, type Output } from './messages.ts';

/** A frame that came. The bytes of output are valid for as long as whoever gets them likes. */
export type Frame = { kind: 'message'; value: unknown } | { kind: 'output'; output: Output };

/** Longest payload of the frame that is looked for at the beginning: a `hello` or a `welcome`. */
const SEEK_PAYLOAD = 4096;

/** Bytes that a guest may have under way for an earlier host. */
const SEEK_LIMIT = 8 * 1024 * 1024;

/**
 * Takes frames out of a stream of bytes that may begin in the middle of one. What is before the first frame that counts is
 * passed over; from there on nothing but whole frames may come. Takes memory for one frame and what was pushed last.
 */
export class FrameDecoder {
  readonly #sender: 'host' | 'guest';
  readonly #mark: Buffer;
  #seeking = true;
  /** What has come and is not used: `#bytes` from `#start` to `#end`. What is behind may be written to when it is `#own`. */
  #bytes: Buffer = Buffer.alloc(0);
  #own = false;
  #start = 0;
  #end = 0;
  /** Bytes of the stream before `#start`. */
  #offset = 0;
  /** No byte before this one, counted as `#offset` is, ends an unfinished message. */
  #looked = 0;

  /**
   * `mark`: text that the first frame, a message, contains, and that cannot be in anything older. With `sender: 'host'`
   * there are only messages; one that was cut off is followed by another host's, and the search begins anew.
   */
  constructor({ sender, mark }: { sender: 'host' | 'guest'; mark: string }) {
    this.#sender = sender;
    this.#mark = Buffer.from(mark);
  }

  /**
   * The frames that are whole with these bytes. All of them have to be taken before the next bytes come.
   *
   * @throws GuestError GUEST_PROTOCOL with the offset of what makes no sense, when a guest has sent it
   */
  *push(chunk: Uint8Array): Generator<Frame> {
    this.#append(chunk);
    for (;;) {
      const frame = this.#seeking ? this.#seek() : this.#next();
      if (frame === undefined) return;
      yield frame;
    }
  }

  #append(chunk: Uint8Array): void {
    const held = this.#end - this.#start;
    if (held === 0) {
      this.#bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      this.#own = false;
      this.#start = 0;
      this.#end = chunk.length;
      return;
    }
    if (!this.#own || this.#bytes.length - this.#end < chunk.length) {
      const larger = Buffer.allocUnsafeSlow(2 * (held + chunk.length));
      this.#bytes.copy(larger, 0, this.#start, this.#end);
      this.#bytes = larger;
      this.#own = true;
      this.#start = 0;
      this.#end = held;
    }
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  #next(): Frame | undefined {
    const bytes = this.#bytes.subarray(this.#start, this.#end);
    if (bytes.length < HEADER) return undefined;
    const { kind, length, problem } = readHeader(bytes, this.#sender);
    if (problem !== undefined) return this.#malformed(problem);
    if (bytes.length < HEADER + length) return this.#isCutOff(bytes) ? this.#malformed('it was cut off') : undefined;
    const payload = bytes.subarray(HEADER, HEADER + length);
    if (checksum(bytes, payload) !== bytes.readUInt32BE(12)) return this.#malformed('its checksum is another one');
    const frame = kind === KIND.message ? messageOf(payload) : outputOf(kind, payload);
    if (frame === undefined) return this.#malformed('what is in it is neither JSON nor output');
    this.#skip(HEADER + length);
    return frame;
  }

  /** Looks for the first frame that counts. One that is not whole keeps it from none that begins within it. */
  #seek(): Frame | undefined {
    for (;;) {
      const bytes = this.#bytes.subarray(this.#start, this.#end);
      const mark = bytes.indexOf(this.#mark);
      if (mark === -1) return this.#skipTo(bytes.length - HEADER - SEEK_PAYLOAD);
      let isUnderWay = false;
      let at = bytes.indexOf(MAGIC, Math.max(0, mark - HEADER - SEEK_PAYLOAD));
      for (; at !== -1 && at < mark; at = bytes.indexOf(MAGIC, at + 1)) {
        const found = frameAround(bytes.subarray(at), mark - at + this.#mark.length);
        if (found === 'under way') isUnderWay = true;
        if (typeof found !== 'object') continue;
        this.#skip(at + found.length);
        this.#seeking = false;
        return found.frame;
      }
      if (isUnderWay) return undefined;
      this.#skipTo(mark + 1);
    }
  }

  /** Drops bytes that belong to no frame. */
  #skipTo(count: number): undefined {
    if (count > 0) this.#skip(count);
    if (this.#sender === 'guest' && this.#offset > SEEK_LIMIT) {
      throw new GuestError(
        'GUEST_PROTOCOL',
        `Cannot understand a guest: no answer within its first ${this.#offset} bytes`,
      );
    }
    return undefined;
  }

  #skip(count: number): void {
    this.#start += count;
    this.#offset += count;
  }

  /** Whether another host's message begins within the payload, which is not whole. */
  #isCutOff(bytes: Buffer): boolean {
    if (this.#sender === 'guest') return false;
    const from = Math.max(HEADER, this.#looked - this.#offset);
    this.#looked = this.#offset + bytes.length;
    return bytes.subarray(from).includes(0xff);
  }

  #malformed(problem: string): Frame | undefined {
    if (this.#sender === 'host') {
      this.#skip(1);
      this.#seeking = true;
      return this.#seek();
    }
    const message = `Cannot understand the frame at byte ${this.#offset} of what a guest sends: ${problem}`;
    throw new GuestError('GUEST_PROTOCOL', message);
  }
}

function readHeader(bytes: Buffer, sender: 'host' | 'guest') {
  const kind = bytes.readUInt8(4);
  const length = bytes.readUInt32BE(8);
  const header = { kind, length };
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) return { ...header, problem: 'it does not begin as one' };
  const isOutput = sender === 'guest' && (kind === KIND.stdout || kind === KIND.stderr);
  if (kind !== KIND.message && !isOutput) return { ...header, problem: `its kind is ${kind}` };
  if (bytes.readUIntBE(5, 3) !== 0) return { ...header, problem: 'what has to be zero in it is not' };
  const limit = sender === 'host' ? MAX_HOST_PAYLOAD : MAX_PAYLOAD;
  const least = isOutput ? OUTPUT_HEADER + 1 : 2;
  if (length < least || length > limit) return { ...header, problem: `its length is ${length}` };
  return { ...header, problem: undefined };
}

/** The message that these bytes begin with, when it reaches to `end` and is short; `'under way'` when its end is missing. */
function frameAround(bytes: Buffer, end: number): { frame: Frame; length: number } | 'under way' | undefined {
  if (bytes.length < HEADER) return undefined;
  const { kind, length, problem } = readHeader(bytes, 'guest');
  if (problem !== undefined || kind !== KIND.message || length > SEEK_PAYLOAD || HEADER + length < end)
    return undefined;
  if (bytes.length < HEADER + length) return 'under way';
  const payload = bytes.subarray(HEADER, HEADER + length);
  const frame = checksum(bytes, payload) === bytes.readUInt32BE(12) ? messageOf(payload) : undefined;
  return frame && { frame, length: HEADER + length };
}

function messageOf(payload: Buffer): Frame | undefined {
  if (!isUtf8(payload)) return undefined;
  try {
    return { kind: 'message', value: JSON.parse(payload.toString()) as unknown };
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function outputOf(kind: number, payload: Buffer): Frame | undefined {
  const position = Number(payload.readBigUInt64BE());
  if (!Number.isSafeInteger(position)) return undefined;
  const stream = kind === KIND.stdout ? 'stdout' : 'stderr';
  return { kind: 'output', output: { stream, position, bytes: payload.subarray(OUTPUT_HEADER) } };
}
