import type { PathInfo, StorePath } from '@nex-nix/nix';
import { call } from '../protocol/call.ts';
import { CacheError } from '../errors.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import { decodeJson, encodeVerified, type ListOutcome, SUBJECTS, type VerifiedPath } from '../protocol/protocol.ts';

/** A request to list paths is at most about this long, unless one path alone is longer. */
const REQUEST_SIZE = 256 * 1024;

export interface PathListerOptions {
  readonly signal: AbortSignal;
  /** A path is listed. */
  readonly onListed: () => void;
  /** Verifies and lists a path whose verification does not hold any more; its references are listed. */
  readonly recommit: (path: StorePath) => Promise<void>;
}

interface Ready {
  readonly path: StorePath;
  readonly verified: VerifiedPath;
}

/** Lists the paths of a push, each after those that it refers to, as many at once as have been verified by then. */
export class PathLister {
  readonly #jetstream: JetStream;
  readonly #options: PathListerOptions;
  /** Of each path, how many of its references are not in line yet; and one more until it is verified itself. */
  readonly #awaited = new Map<StorePath, number>();
  readonly #referrers = new Map<StorePath, StorePath[]>();
  readonly #verified = new Map<StorePath, VerifiedPath | undefined>();
  /** Those that can be listed, references first. */
  #line: Ready[] = [];
  #draining: Promise<void> | undefined;

  /** @param paths - all paths that are going to be listed. */
  constructor(jetstream: JetStream, paths: readonly PathInfo[], options: PathListerOptions) {
    this.#jetstream = jetstream;
    this.#options = options;
    for (const { storePath } of paths) this.#awaited.set(storePath, 1);
    for (const { storePath, references } of paths) {
      for (const reference of references) {
        if (reference === storePath || !this.#awaited.has(reference)) continue;
        this.#awaited.set(storePath, (this.#awaited.get(storePath) ?? 0) + 1);
        const referrers = this.#referrers.get(reference);
        if (referrers === undefined) this.#referrers.set(reference, [storePath]);
        else referrers.push(storePath);
      }
    }
  }

  /**
   * Tells that a path was verified; `verified` is undefined when it is listed already. Waits until nothing is left that could be
   * listed by now.
   */
  async add(path: StorePath, verified: VerifiedPath | undefined): Promise<void> {
    this.#verified.set(path, verified);
    this.#arrived(path);
    if (this.#line.length > 0) this.#draining ??= this.#drain();
    await this.#draining;
  }

  /** Something that `path` waits for has come. */
  #arrived(path: StorePath): void {
    const ready = [path];
    for (let next = ready.pop(); next !== undefined; next = ready.pop()) {
      const awaited = (this.#awaited.get(next) ?? 0) - 1;
      this.#awaited.set(next, awaited);
      if (awaited > 0) continue;
      const verified = this.#verified.get(next);
      this.#verified.delete(next);
      if (verified === undefined) this.#options.onListed();
      else this.#line.push({ path: next, verified });
      ready.push(...(this.#referrers.get(next) ?? []));
    }
  }

  async #drain(): Promise<void> {
    try {
      while (this.#line.length > 0) await this.#list(this.#nextBatch());
    } finally {
      this.#draining = undefined;
    }
  }

  #nextBatch(): Ready[] {
    let size = 0;
    const end = this.#line.findIndex(({ verified }, i) => (size += verified.narInfo.length) > REQUEST_SIZE && i > 0);
    return this.#line.splice(0, end === -1 ? this.#line.length : end);
  }

  async #list(batch: readonly Ready[]): Promise<void> {
    const body = encodeVerified(batch.map(({ verified }) => verified));
    const task = { action: 'list what was pushed', signal: this.#options.signal };
    const answer = await call(this.#jetstream, { subject: SUBJECTS.listVerified, body }, task);
    const outcomes = decodeJson(answer, 'the paths that it listed') as ListOutcome[];
    if (outcomes.length !== batch.length) {
      throw new CacheError('CACHE_PROTOCOL', 'Cannot use the answer on what was listed: its length is wrong');
    }
    for (const [i, { outcome }] of outcomes.entries()) {
      const { path } = batch[i] as Ready;
      // In their order, so that what a stale path refers to is listed before it.
      if (outcome === 'stale') await this.#options.recommit(path);
      this.#options.onListed();
    }
  }
}
