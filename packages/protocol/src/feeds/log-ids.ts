/** JetStream, too, takes a message with an id that it had within the last minutes for the same one. */
export const LOG_ID_HEADER = 'Nats-Msg-Id';

/** What tells a piece of output from all others. Log messages of Go nodes say nothing of it. */
export interface LogId {
  /** One run of a program: `[A-Za-z0-9-]+`, never used for another one. */
  run: string;
  stream: 'stdout' | 'stderr';
  /** Bytes of the stream up to the end of the line. */
  position: number;
  /** Lines that are too long for a message come in several, from 0 on. */
  piece: number;
}

const FORMAT = /^([A-Za-z0-9-]{1,64})\.(stdout|stderr)\.(\d{1,15})\.(\d{1,6})$/;

/** How many streams of output are known at a time; the one that said nothing for longest is forgotten. */
const MAX_STREAMS = 4096;

/** Value of {@link LOG_ID_HEADER}. */
export function formatLogId({ run, stream, position, piece }: LogId): string {
  return `${run}.${stream}.${position}.${piece}`;
}

/** Undefined for what is no {@link formatLogId}. */
export function parseLogId(text: string | undefined): LogId | undefined {
  const [, run, stream, position, piece] = FORMAT.exec(text ?? '') ?? [];
  if (run === undefined) return undefined;
  return { run, stream: stream === 'stdout' ? 'stdout' : 'stderr', position: Number(position), piece: Number(piece) };
}

/** Finds what a node publishes again, since it was killed before it had written down how far it got. */
export class LogRepetitions {
  readonly #last = new Map<string, { position: number; piece: number }>();

  /** Whether this piece of output, or a later one of its stream, was asked about before. Without a proper id: false. */
  isRepeated(id: string | undefined): boolean {
    const parsed = parseLogId(id);
    if (parsed === undefined) return false;
    const { run, stream, position, piece } = parsed;
    const key = `${run}.${stream}`;
    const last = this.#last.get(key);
    if (last !== undefined && (position < last.position || (position === last.position && piece <= last.piece))) {
      return true;
    }
    this.#last.delete(key);
    this.#last.set(key, { position, piece });
    const [oldest] = this.#last.keys();
    if (this.#last.size > MAX_STREAMS && oldest !== undefined) this.#last.delete(oldest);
    return false;
  }
}
