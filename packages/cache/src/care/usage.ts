import { type StorePath, storePathHash } from '@nex-nix/nix';
import type { JetStream } from '../jetstream/jetstream.ts';
import { CARE_STREAM, careSubject, lastToken } from '../jetstream/layout.ts';
import { leaderMessages } from './leader.ts';

/** The use of a path is written down at most this often. */
const RESOLUTION_MS = 60 * 60 * 1000;
/** Paths remembered as written down. */
const REMEMBERED = 50_000;
const PREFIX = careSubject('used');

/**
 * Writes down when closures were asked for and pushed: for their roots, which is enough, as a use counts for all that a
 * path refers to. What cannot be written is lost: it is for the order in which paths make room, not for what may go.
 */
export class Usage {
  readonly #jetstream: JetStream;
  readonly #written = new Map<StorePath, number>();

  constructor(jetstream: JetStream) {
    this.#jetstream = jetstream;
  }

  note(paths: readonly StorePath[]): void {
    const now = Date.now();
    for (const path of paths) {
      if (now - (this.#written.get(path) ?? 0) < RESOLUTION_MS) continue;
      this.#written.delete(path);
      this.#written.set(path, now);
      // Without acknowledgement: nothing waits for it.
      this.#jetstream.nc.publish(`${PREFIX}.${storePathHash(path)}`);
    }
    for (const path of this.#written.keys()) {
      if (this.#written.size <= REMEMBERED) return;
      this.#written.delete(path);
    }
  }
}

/** When paths were used last, by hash part, in ms since 1970; and the sequences of these notes. */
export async function readUsage(
  jetstream: JetStream,
  signal: AbortSignal | undefined,
): Promise<Map<string, { time: number; seq: number }>> {
  const used = new Map<string, { time: number; seq: number }>();
  const region = { stream: CARE_STREAM, subjects: `${PREFIX}.>` };
  const task = { action: 'read when paths were used', signal, from: 1 };
  for await (const { subject, time, seq } of leaderMessages(jetstream, region, task)) {
    used.set(lastToken(subject), { time, seq });
  }
  return used;
}
