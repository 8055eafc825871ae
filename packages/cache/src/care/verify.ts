import type { PathSource, SignalOptions, StorePath } from '@nex-nix/nix';
import { call } from '../protocol/call.ts';
import type { ChunkId } from '../chunks/chunk-id.ts';
import { decodeEntries, decodeEntry, type DecodedEntry } from '../manifests/entry.ts';
import { CacheError } from '../errors.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import { encodePaths, SUBJECTS } from '../protocol/protocol.ts';
import { listPaths } from './care-client.ts';
import { check } from './check.ts';
import { CHECKS_PER_REQUEST, type DamagedChunk } from './damage.ts';
import { pushUnbroken } from './push-unbroken.ts';
import { reseed } from './reseed.ts';

/** What became of a damaged chunk: `kept` is what was missing and still is, `removed` what was corrupt and is gone now. */
export type DamageOutcome = 'repaired' | 'removed' | 'kept';

/** A listed path that lacks its manifest, or what it refers to. */
export interface BrokenPath {
  readonly storePath: StorePath;
  readonly why: string;
  readonly outcome: 'repaired' | 'kept';
}

export interface CacheVerifyReport {
  /** Different chunks that listed paths have. */
  readonly checkedChunks: number;
  readonly checkedPaths: number;
  readonly damaged: readonly (DamagedChunk & {
    /** The paths that have the chunk. */
    readonly paths: readonly StorePath[];
    readonly outcome: DamageOutcome;
  })[];
  /** Listed paths that could not be pulled whatever their chunks are. */
  readonly broken: readonly BrokenPath[];
}

export interface CacheVerifyOptions extends SignalOptions {
  /** Where damaged chunks and broken paths may come from again. */
  repair?: PathSource | undefined;
  onProgress?: ((progress: { readonly checkedPaths: number; readonly checkedChunks: number }) => void) | undefined;
}

/** Paths whose manifests are fetched at once. */
const PAGE = 64;

/**
 * Reads every chunk of every listed path, and compares what is listed with itself: narinfos with manifests and references.
 * The service reads the chunks, a few hundred a request; this asks.
 */
export async function verifyCache(jetstream: JetStream, options: CacheVerifyOptions): Promise<CacheVerifyReport> {
  return new Verification(jetstream, options).run();
}

class Verification {
  readonly #jetstream: JetStream;
  readonly #options: CacheVerifyOptions;
  /** Path to its references. */
  readonly #listed = new Map<StorePath, readonly StorePath[]>();
  readonly #seen = new Set<ChunkId>();
  readonly #damaged = new Map<ChunkId, { readonly kind: DamagedChunk['kind']; readonly paths: StorePath[] }>();
  readonly #broken: { storePath: StorePath; why: string }[] = [];
  #unchecked: ChunkId[] = [];
  #checkedChunks = 0;

  constructor(jetstream: JetStream, options: CacheVerifyOptions) {
    this.#jetstream = jetstream;
    this.#options = options;
  }

  async run(): Promise<CacheVerifyReport> {
    let page: StorePath[] = [];
    for await (const { storePath, references } of listPaths(this.#jetstream, this.#options.signal)) {
      this.#listed.set(storePath, references);
      page.push(storePath);
      if (page.length < PAGE) continue;
      await this.#checkPaths(page);
      page = [];
    }
    await this.#checkPaths(page);
    await this.#checkChunks(0);
    await this.#checkReferences();
    await this.#findPaths();
    const outcomes = await this.#repair();
    const broken = await this.#repairBroken();
    return {
      checkedChunks: this.#checkedChunks,
      checkedPaths: this.#listed.size,
      damaged: [...this.#damaged].map(([chunk, { kind, paths }]) => {
        const left = kind === 'corrupt' ? 'removed' : 'kept';
        return { chunk, kind, paths, outcome: outcomes.has(chunk) ? 'repaired' : left };
      }),
      broken,
    };
  }

  async #checkPaths(paths: readonly StorePath[]): Promise<void> {
    for (const { manifest } of await this.#entries(paths)) {
      for (const { id } of manifest.chunks) {
        if (this.#seen.has(id)) continue;
        this.#seen.add(id);
        this.#unchecked.push(id);
      }
      await this.#checkChunks(CHECKS_PER_REQUEST);
    }
  }

  /** The entries of paths; those that cannot be read are noted as broken. */
  async #entries(paths: readonly StorePath[]): Promise<DecodedEntry[]> {
    if (paths.length === 0) return [];
    const question = { subject: SUBJECTS.info, body: encodePaths(paths) };
    try {
      const answer = await call(this.#jetstream, question, { action: 'fetch manifests', signal: this.#options.signal });
      return decodeEntries(answer).map((entry) => decodeEntry(entry, 'the cache'));
    } catch (error) {
      if (!(error instanceof CacheError) || !INVALID.has(error.code)) throw error;
      const [path] = paths;
      if (path === undefined) throw error;
      if (paths.length === 1) {
        this.#broken.push({ storePath: path, why: error.message });
        return [];
      }
      const middle = Math.ceil(paths.length / 2);
      return [...(await this.#entries(paths.slice(0, middle))), ...(await this.#entries(paths.slice(middle)))];
    }
  }

  /** Has chunks checked while more than `limit` are unchecked. */
  async #checkChunks(limit: number): Promise<void> {
    while (this.#unchecked.length > limit) {
      const chunks = this.#unchecked.splice(0, CHECKS_PER_REQUEST);
      for (const { chunk, kind } of await check(this.#jetstream, { chunks }, this.#options.signal)) {
        this.#damaged.set(chunk, { kind, paths: [] });
      }
      this.#checkedChunks += chunks.length;
      this.#options.onProgress?.({ checkedPaths: this.#listed.size, checkedChunks: this.#checkedChunks });
    }
  }

  async #checkReferences(): Promise<void> {
    for (const [storePath, references] of this.#listed) {
      const absent = references.find((reference) => !this.#listed.has(reference));
      // Listed and removed meanwhile are told apart from broken by asking again.
      if (absent === undefined || (await this.#isListed(absent)) || !(await this.#isListed(storePath))) continue;
      this.#broken.push({ storePath, why: `it refers to "${absent}", which is not in the cache` });
    }
  }

  async #isListed(path: StorePath): Promise<boolean> {
    const question = { subject: SUBJECTS.info, body: encodePaths([path]) };
    const task = { action: `look up "${path}"`, signal: this.#options.signal };
    return (await call(this.#jetstream, question, task)).length > 0;
  }

  /** Finds the paths that have damaged chunks, and strikes out chunks that no path has any more. */
  async #findPaths(): Promise<void> {
    if (this.#damaged.size === 0) return;
    const broken = new Set(this.#broken.map(({ storePath }) => storePath));
    const paths = [...this.#listed.keys()].filter((path) => !broken.has(path));
    for (let at = 0; at < paths.length; at += PAGE) {
      for (const { info, manifest } of await this.#entries(paths.slice(at, at + PAGE))) {
        for (const id of new Set(manifest.chunks.map((chunk) => chunk.id))) {
          this.#damaged.get(id)?.paths.push(info.storePath);
        }
      }
    }
    for (const [chunk, { paths: owners }] of this.#damaged) if (owners.length === 0) this.#damaged.delete(chunk);
  }

  /** @returns the chunks that are back. */
  async #repair(): Promise<Set<ChunkId>> {
    const { repair, signal } = this.#options;
    const left = new Set(this.#damaged.keys());
    const owners = new Set([...this.#damaged.values()].flatMap(({ paths }) => paths));
    for (const path of owners) {
      const chunks = [...left].filter((chunk) => this.#damaged.get(chunk)?.paths.includes(path));
      if (chunks.length === 0) continue;
      if (repair !== undefined) {
        for (const chunk of await reseed(this.#jetstream, { source: repair, path, chunks }, signal)) left.delete(chunk);
      } else {
        // Whoever holds the path is told.
        for (let at = 0; at < chunks.length; at += CHECKS_PER_REQUEST) {
          await check(this.#jetstream, { chunks: chunks.slice(at, at + CHECKS_PER_REQUEST), path }, signal);
        }
      }
    }
    return new Set([...this.#damaged.keys()].filter((chunk) => !left.has(chunk)));
  }

  async #repairBroken(): Promise<BrokenPath[]> {
    const { repair } = this.#options;
    const paths: BrokenPath[] = [];
    for (const broken of this.#broken) {
      const isBack = repair !== undefined && (await this.#pushAgain(broken.storePath, repair));
      paths.push({ ...broken, outcome: isBack ? 'repaired' : 'kept' });
    }
    return paths;
  }

  /** @returns false when the source does not have the path with the same content. */
  async #pushAgain(path: StorePath, source: PathSource): Promise<boolean> {
    const { signal } = this.#options;
    if ((await source.pathInfo(path, { signal })) === undefined) return false;
    try {
      await pushUnbroken(this.#jetstream, { source, roots: [path] }, { again: path, signal });
      return true;
    } catch (error) {
      if (error instanceof CacheError && UNFIT.has(error.code)) return false;
      throw error;
    }
  }
}

/** Codes of an entry that cannot be used. */
const INVALID: ReadonlySet<string> = new Set(['CACHE_MANIFEST_INVALID', 'CACHE_NARINFO_INVALID']);
/** Codes of a push that cannot repair a path: the source, or the narinfo that is listed, is of no use. */
const UNFIT: ReadonlySet<string> = new Set(['CACHE_PATH_CONFLICT', 'CACHE_NAR_MISMATCH', 'CACHE_NARINFO_INVALID']);
