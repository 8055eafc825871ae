import type { NarHash, StorePath } from '@nex-nix/nix';
import { check } from '../care/check.ts';
import { listPaths } from '../care/care-client.ts';
import { CHECKS_PER_REQUEST } from '../care/damage.ts';
import { CacheError, type CacheErrorCode } from '../errors.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import type { Logger } from '../service/logger.ts';
import type { Manifest } from '../manifests/manifest.ts';
import { Semaphore } from '../tasks/semaphore.ts';
import type { KnownNar } from './nar-index.ts';

const CODES: ReadonlySet<CacheErrorCode> = new Set([
  'CACHE_CHUNK_CORRUPT',
  'CACHE_CHUNK_MISSING',
  'CACHE_MANIFEST_INVALID',
  'CACHE_NARINFO_INVALID',
]);
/** For which a reader waits until what it misses is brought back. */
const HEALING_MS = 5000;

/** Whether the cache has lost something of what it lists. */
export function isDamage(error: unknown): error is CacheError {
  return error instanceof CacheError && CODES.has(error.code);
}

interface Suspect {
  readonly chunks: Manifest['chunks'];
  /** A path that has them, whose holders are told what is damaged. */
  readonly path?: StorePath | undefined;
  /** How long to wait, in ms, until they have brought it back. */
  readonly waitMs?: number;
}

/** Has the service look at all chunks of a NAR, so that it believes none to be there that is not. @returns whether all are. */
export async function checkManifest(
  jetstream: JetStream,
  { chunks, path, waitMs = 0 }: Suspect,
  signal: AbortSignal,
): Promise<boolean> {
  const ids = [...new Set(chunks.map(({ id }) => id))];
  let isWhole = true;
  for (let at = 0; at < ids.length; at += CHECKS_PER_REQUEST) {
    const page = { chunks: ids.slice(at, at + CHECKS_PER_REQUEST), ...(path === undefined ? {} : { path }) };
    // In vain once is enough.
    const damaged = await check(jetstream, { ...page, waitMs: isWhole ? waitMs : 0 }, signal);
    isWhole &&= damaged.length === 0;
  }
  return isWhole;
}

/** What readers found damaged: it is logged, and announced to those who have the path and can bring it back. */
export class DamageReports {
  readonly #jetstream: JetStream;
  readonly #logger: Logger | undefined;
  /** One at a time: each reads a whole NAR. */
  readonly #turn = new Semaphore(1);

  constructor(jetstream: JetStream, logger: Logger | undefined) {
    this.#jetstream = jetstream;
    this.#logger = logger;
  }

  log(error: CacheError): void {
    this.#logger?.error({ err: error, storePath: error.storePath, chunk: error.chunk }, 'the cache is damaged');
  }

  /** Announces what a NAR lacks, as an error of its reader says, and waits a few seconds for it. @returns whether it is whole. */
  async heal(error: unknown, { manifest, path }: KnownNar, signal: AbortSignal): Promise<boolean> {
    if (!isDamage(error)) return false;
    using _ = await this.#turn.acquire(1, signal);
    const { chunks, narHash } = manifest;
    const listed = path ?? (await this.#pathWith(narHash, signal));
    const isWhole = await checkManifest(this.#jetstream, { chunks, path: listed, waitMs: HEALING_MS }, signal);
    if (isWhole) this.log(error);
    return isWhole;
  }

  /** A client may remember for a month what a NAR is called, and ask a door for it that never heard of its path. */
  async #pathWith(narHash: NarHash, signal: AbortSignal): Promise<StorePath | undefined> {
    for await (const path of listPaths(this.#jetstream, signal)) if (path.narHash === narHash) return path.storePath;
    return undefined;
  }
}
