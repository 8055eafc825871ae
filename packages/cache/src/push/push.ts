import type { PathInfo, PathSource, StorePath } from '@nex-nix/nix';
import { queryClosure } from '@nex-nix/nix';
import { unpackBits } from '../protocol/bitmap.ts';
import { call } from '../protocol/call.ts';
import { ChunkUploader } from './chunk-uploader.ts';
import { encodeEntries, type Entry, makeEntry } from '../manifests/entry.ts';
import { CacheError } from '../errors.ts';
import { cutChunks } from '../chunks/fastcdc.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import { Normaliser } from '../manifests/normalise.ts';
import { PathLister } from './path-lister.ts';
import { maxBody } from '../jetstream/payload.ts';
import {
  decodeJson,
  encodePaths,
  PATHS_PER_REQUEST,
  SUBJECTS,
  type VerifiedPath,
  type VerifyOutcome,
} from '../protocol/protocol.ts';
import { Semaphore } from '../tasks/semaphore.ts';
import { TaskGroup } from '../tasks/task-group.ts';

/** How far a push is. The totals are of the paths that the cache does not have. */
export interface PushProgress {
  readonly paths: { readonly done: number; readonly total: number };
  /** Bytes of NARs read and either sent or found in the cache. */
  readonly narBytes: { readonly done: number; readonly total: number };
  /** Bytes of chunks sent, compressed. */
  readonly sentBytes: number;
}

export interface PushOptions {
  signal?: AbortSignal | undefined;
  /** Called after each chunk and each path. */
  onProgress?: ((progress: PushProgress) => void) | undefined;
  /** Paths read at once. @default 8 */
  concurrency?: number | undefined;
  /**
   * Stores NARs without the hash parts of the path and its references, and these beside them, so that a build that differs in
   * hashes only adds next to nothing. @default true
   */
  normalise?: boolean | undefined;
}

/** Options that only this package uses. */
export interface PushAgainOptions extends PushOptions {
  /** Pushed although the cache lists it. */
  again?: StorePath | undefined;
}

/** What a push did. */
export interface PushReport {
  readonly paths: { readonly total: number; readonly pushed: number; readonly present: number };
  /** Bytes of the NARs that were read. */
  readonly narBytes: number;
  readonly chunks: { readonly total: number; readonly sent: number };
  /** Bytes of chunks sent, compressed. */
  readonly sentBytes: number;
  readonly durationMs: number;
}

const DEFAULT_CONCURRENCY = 8;
/** A path with a NAR of so many bytes counts for half of what is read at once. */
const LARGE = 4 * 1024 * 1024;
/** Paths that the service verifies at once for one push: each costs it some round trips. */
const VERIFIED_AT_ONCE = 64;

/** Pushes the closure of `roots` into the cache: see `NatsCache.push`. */
export async function pushClosure(
  jetstream: JetStream,
  { source, roots }: { source: PathSource; roots: readonly StorePath[] },
  options: PushAgainOptions,
): Promise<PushReport> {
  const started = performance.now();
  const { signal } = options;
  const closure = await queryClosure(source, roots, { signal });
  const known = await knownPaths(jetstream, closure, signal);
  const absent = closure.filter(({ storePath }) => !known.has(storePath) || storePath === options.again);
  const push = new Push(jetstream, source, { ...options, absent });
  await push.run();
  return {
    paths: { total: closure.length, pushed: absent.length, present: closure.length - absent.length },
    ...push.totals(),
    durationMs: performance.now() - started,
  };
}

async function knownPaths(
  jetstream: JetStream,
  closure: readonly PathInfo[],
  signal: AbortSignal | undefined,
): Promise<Set<StorePath>> {
  const known = new Set<StorePath>();
  for (let at = 0; at < closure.length; at += PATHS_PER_REQUEST) {
    const paths = closure.slice(at, at + PATHS_PER_REQUEST).map(({ storePath }) => storePath);
    const question = { subject: SUBJECTS.known, body: encodePaths(paths) };
    const answer = await call(jetstream, question, { action: 'ask the cache for the paths it has', signal });
    const bits = unpackBits(answer, paths.length);
    if (bits === undefined) {
      throw new CacheError(
        'CACHE_PROTOCOL',
        'Cannot use the answer on the paths that the cache has: its length is wrong',
      );
    }
    for (const [i, path] of paths.entries()) if (bits[i] === true) known.add(path);
  }
  return known;
}

/**
 * One push: several paths are read at once, their chunks share one uploader. Each path is verified as soon as its chunks are
 * there, and listed when all that it refers to is.
 */
class Push {
  readonly #jetstream: JetStream;
  readonly #source: PathSource;
  readonly #absent: readonly PathInfo[];
  readonly #options: PushOptions;
  readonly #group: TaskGroup;
  readonly #uploader: ChunkUploader;
  readonly #verifying = new Semaphore(VERIFIED_AT_ONCE);
  readonly #lister: PathLister;
  readonly #narBytesTotal: number;
  #pathsDone = 0;

  constructor(jetstream: JetStream, source: PathSource, options: PushOptions & { absent: readonly PathInfo[] }) {
    const { absent, signal } = options;
    this.#jetstream = jetstream;
    this.#source = source;
    this.#options = options;
    this.#absent = absent;
    this.#narBytesTotal = absent.reduce((sum, { narSize }) => sum + narSize, 0);
    this.#group = new TaskGroup(signal);
    this.#uploader = new ChunkUploader(jetstream, { signal: this.#group.signal, onChunk: () => this.#report() });
    const infos = new Map(absent.map((info) => [info.storePath, info]));
    this.#lister = new PathLister(jetstream, absent, {
      signal: this.#group.signal,
      onListed: () => {
        this.#pathsDone++;
        this.#report();
      },
      recommit: async (path) => this.#commitAgain(infos.get(path) as PathInfo),
    });
  }

  async run(): Promise<void> {
    const concurrency = this.#options.concurrency ?? DEFAULT_CONCURRENCY;
    const reading = new Semaphore(concurrency);
    // The largest first: it takes longest to be verified.
    const infos = this.#absent.toSorted((a, b) => b.narSize - a.narSize);
    this.#group.start(async (signal) => {
      for (const info of infos) {
        // A large one needs no others beside it to keep this machine busy.
        const permit = await reading.acquire(info.narSize < LARGE ? 1 : Math.ceil(concurrency / 2), signal);
        this.#group.start(() => this.#pushPath(info, permit));
      }
    });
    try {
      await this.#group.join();
    } finally {
      this.#uploader[Symbol.dispose]();
    }
  }

  totals(): Pick<PushReport, 'narBytes' | 'chunks' | 'sentBytes'> {
    const { narBytes, chunks, sentChunks, sentBytes } = this.#uploader;
    return { narBytes, chunks: { total: chunks, sent: sentChunks }, sentBytes };
  }

  /** @param permit - given back when the path is read. */
  async #pushPath(info: PathInfo, permit: Disposable): Promise<void> {
    const entry = await this.#uploadFirst(info, permit);
    const verified = await this.#verify(info, entry);
    await this.#lister.add(info.storePath, verified);
  }

  async #uploadFirst(info: PathInfo, permit: Disposable): Promise<WaitingEntry> {
    using _ = permit;
    const entry = await this.#upload(info, { evenIfPresent: false });
    // Waits here, so that no more is read than is verified.
    return { entry, turn: await this.#verifying.acquire(1, this.#group.signal) };
  }

  /** @returns undefined when the cache lists the path already. */
  async #verify(info: PathInfo, { entry, turn }: WaitingEntry): Promise<VerifiedPath | undefined> {
    using _ = turn;
    const question = { subject: SUBJECTS.verify, body: encodeEntries([entry]) };
    const task = { action: `have "${info.storePath}" verified`, signal: this.#group.signal };
    const ask = async () => decodeJson(await call(this.#jetstream, question, task), 'a path') as VerifyOutcome;
    const outcome = await this.#withChunks(info, ask);
    return outcome.outcome === 'verified' ? { narInfo: entry.narInfo, receipt: outcome.receipt } : undefined;
  }

  async #commitAgain(info: PathInfo): Promise<void> {
    const entry = await this.#upload(info, { evenIfPresent: false });
    const question = { subject: SUBJECTS.commit, body: encodeEntries([entry]) };
    const task = { action: `list "${info.storePath}"`, signal: this.#group.signal };
    await this.#withChunks(info, () => call(this.#jetstream, question, task));
  }

  /** Sends the chunks of a path again when the cache has lost one: what it believed to have was damaged or gone, which it knows by now. */
  async #withChunks<T>(info: PathInfo, once: () => Promise<T>): Promise<T> {
    try {
      return await once();
    } catch (error) {
      if (!isChunkLost(error)) throw error;
      await this.#upload(info, { evenIfPresent: true });
      return once();
    }
  }

  async #upload(info: PathInfo, options: { evenIfPresent: boolean }): Promise<Entry> {
    const { storePath, narHash, narSize } = info;
    const normaliser = this.#options.normalise === false ? undefined : new Normaliser(info);
    const nar = this.#source.nar(info, { signal: this.#group.signal, reuseChunks: true });
    const chunks = await this.#uploader.upload(cutChunks(normaliser?.normalise(nar) ?? nar), options);
    const size = chunks.reduce((sum, chunk) => sum + chunk.size, 0);
    if (size !== narSize) {
      throw new CacheError(
        'CACHE_NAR_MISMATCH',
        `Cannot push "${storePath}": its NAR has ${size} bytes in "${this.#source.name}", its path info says ${narSize}`,
        { hint: `Check the store: nix-store --verify-path ${storePath}`, storePath },
      );
    }
    const entry = makeEntry(info, { narHash, narSize, chunks, mentions: normaliser?.mentions() });
    if (encodeEntries([entry]).length <= maxBody(this.#jetstream.nc)) return entry;
    throw new CacheError(
      'CACHE_NAR_TOO_LARGE',
      `Cannot push "${storePath}": the list of its ${chunks.length} chunks does not fit into one message`,
      { hint: 'Raise max_payload of nats-server, or split the path', storePath },
    );
  }

  #report(): void {
    const { narBytes, sentBytes } = this.#uploader;
    this.#options.onProgress?.({
      paths: { done: this.#pathsDone, total: this.#absent.length },
      narBytes: { done: narBytes, total: this.#narBytesTotal },
      sentBytes,
    });
  }
}

/** What is to be verified, and the permit to have it verified now. */
interface WaitingEntry {
  readonly entry: Entry;
  readonly turn: Disposable;
}

function isChunkLost(error: unknown): boolean {
  return error instanceof CacheError && (error.code === 'CACHE_CHUNK_CORRUPT' || error.code === 'CACHE_CHUNK_MISSING');
}
