import type { PathInfo, PathSource, StorePath } from '@nex-nix/nix';
import { queryClosure } from '@nex-nix/nix';
import { abortable } from './abortable.ts';
import { unpackBits } from './bitmap.ts';
import { call } from './call.ts';
import { ChunkUploader } from './chunk-uploader.ts';
import { encodeEntries, makeEntry } from './entry.ts';
import { CacheError } from './errors.ts';
import { cutChunks } from './fastcdc.ts';
import type { JetStream } from './jetstream.ts';
import type { ChunkRef, Manifest } from './manifest.ts';
import { Normaliser } from './normalise.ts';
import { maxBody } from './payload.ts';
import { encodePaths, PATHS_PER_REQUEST, SUBJECTS } from './protocol.ts';
import { Semaphore } from './semaphore.ts';
import { TaskGroup } from './task-group.ts';

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

/** Pushes the closure of `roots` into the cache: see `NatsCache.push`. */
export async function pushClosure(
  jetstream: JetStream,
  { source, roots }: { source: PathSource; roots: readonly StorePath[] },
  options: PushOptions,
): Promise<PushReport> {
  const started = performance.now();
  const { signal } = options;
  const closure = await queryClosure(source, roots, { signal });
  const known = await knownPaths(jetstream, closure, signal);
  const absent = closure.filter(({ storePath }) => !known.has(storePath));
  const push = new Push(jetstream, source, { ...options, absent });
  await push.run();
  return {
    paths: { total: closure.length, pushed: absent.length, present: closure.length - absent.length },
    ...push.totals(),
    durationMs: performance.now() - started,
  };
}

/**
 * Sends the chunks of a path that the cache lacks, and lists nothing.
 * @param options.evenIfPresent - without asking, all of them.
 */
export async function sendChunks(
  jetstream: JetStream,
  { source, info }: { source: PathSource; info: PathInfo },
  options: Pick<PushOptions, 'signal' | 'normalise'> & { evenIfPresent: boolean },
): Promise<void> {
  await new Push(jetstream, source, { ...options, absent: [info] }).send(options);
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

/** One push: several paths are read at once, their chunks share one uploader, and they are listed references first. */
class Push {
  readonly #jetstream: JetStream;
  readonly #source: PathSource;
  readonly #absent: readonly PathInfo[];
  readonly #options: PushOptions;
  readonly #group: TaskGroup;
  readonly #uploader: ChunkUploader;
  /** Of each path that is pushed: resolves when it is listed. */
  readonly #listed = new Map<StorePath, PromiseWithResolvers<void>>();
  readonly #narBytesTotal: number;
  #pathsDone = 0;

  constructor(jetstream: JetStream, source: PathSource, options: PushOptions & { absent: readonly PathInfo[] }) {
    this.#jetstream = jetstream;
    this.#source = source;
    this.#options = options;
    this.#absent = options.absent;
    this.#narBytesTotal = options.absent.reduce((sum, { narSize }) => sum + narSize, 0);
    this.#group = new TaskGroup(options.signal);
    this.#uploader = new ChunkUploader(jetstream, { signal: this.#group.signal, onChunk: () => this.#report() });
  }

  async run(): Promise<void> {
    const permits = new Semaphore(this.#options.concurrency ?? DEFAULT_CONCURRENCY);
    for (const { storePath } of this.#absent) this.#listed.set(storePath, Promise.withResolvers<void>());
    this.#group.start(async (signal) => {
      // References come first, so what a path waits for has begun before it and cannot wait for its permit.
      for (const info of this.#absent) {
        const permit = await permits.acquire(1, signal);
        this.#group.start(async () => {
          using _ = permit;
          await this.#pushPath(info, signal);
        });
      }
    });
    try {
      await this.#group.join();
    } finally {
      this.#uploader[Symbol.dispose]();
    }
  }

  async send({ evenIfPresent }: { evenIfPresent: boolean }): Promise<void> {
    try {
      for (const info of this.#absent) await this.#upload(info, { evenIfPresent });
    } finally {
      this.#uploader[Symbol.dispose]();
    }
  }

  totals(): Pick<PushReport, 'narBytes' | 'chunks' | 'sentBytes'> {
    const { narBytes, chunks, sentChunks, sentBytes } = this.#uploader;
    return { narBytes, chunks: { total: chunks, sent: sentChunks }, sentBytes };
  }

  async #pushPath(info: PathInfo, signal: AbortSignal): Promise<void> {
    const manifest = await this.#upload(info, { evenIfPresent: false });
    await this.#referencesListed(info, signal);
    try {
      await this.#commit(info, manifest, signal);
    } catch (error) {
      if (!isChunkLost(error)) throw error;
      // What the cache believed to have was damaged or gone, which it knows by now.
      await this.#upload(info, { evenIfPresent: true });
      await this.#commit(info, manifest, signal);
    }
    this.#listed.get(info.storePath)?.resolve();
    this.#pathsDone++;
    this.#report();
  }

  async #upload(info: PathInfo, { evenIfPresent }: { evenIfPresent: boolean }): Promise<Manifest> {
    const { storePath, narHash, narSize } = info;
    const { signal } = this.#group;
    const uploads = new TaskGroup(signal);
    const chunks: ChunkRef[] = [];
    const normaliser = this.#options.normalise === false ? undefined : new Normaliser(info);
    const nar = this.#source.nar(info, { signal });
    let size = 0;
    try {
      for await (const bytes of cutChunks(normaliser?.normalise(nar) ?? nar)) {
        size += bytes.length;
        chunks.push(await this.#uploader.upload(bytes, { uploads, evenIfPresent }));
        uploads.signal.throwIfAborted();
      }
    } finally {
      this.#uploader.flush();
      await uploads.join();
    }
    if (size !== narSize) {
      throw new CacheError(
        'CACHE_NAR_MISMATCH',
        `Cannot push "${storePath}": its NAR has ${size} bytes in "${this.#source.name}", its path info says ${narSize}`,
        { hint: `Check the store: nix-store --verify-path ${storePath}`, storePath },
      );
    }
    return { narHash, narSize, chunks, mentions: normaliser?.mentions() };
  }

  async #referencesListed(info: PathInfo, signal: AbortSignal): Promise<void> {
    const others = info.references.filter((reference) => reference !== info.storePath);
    const listed = others.flatMap((reference) => this.#listed.get(reference)?.promise ?? []);
    await abortable(Promise.all(listed), signal);
  }

  async #commit(info: PathInfo, manifest: Manifest, signal: AbortSignal): Promise<void> {
    const body = encodeEntries([makeEntry(info, manifest)]);
    if (body.length > maxBody(this.#jetstream.nc)) {
      throw new CacheError(
        'CACHE_NAR_TOO_LARGE',
        `Cannot push "${info.storePath}": the list of its ${manifest.chunks.length} chunks does not fit into one message`,
        { hint: 'Raise max_payload of nats-server, or split the path', storePath: info.storePath },
      );
    }
    const task = { action: `list "${info.storePath}"`, signal };
    await call(this.#jetstream, { subject: SUBJECTS.commit, body }, task);
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

function isChunkLost(error: unknown): boolean {
  return error instanceof CacheError && (error.code === 'CACHE_CHUNK_CORRUPT' || error.code === 'CACHE_CHUNK_MISSING');
}
