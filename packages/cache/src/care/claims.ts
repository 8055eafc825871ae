import { type NarInfo, type StorePath, storePathHash } from '@nex-nix/nix';
import { type DecodedEntry, encodeEntries, type Entry } from '../manifests/entry.ts';
import { CacheError } from '../errors.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import { narHashDigits } from '../jetstream/layout.ts';
import { maxBody } from '../jetstream/payload.ts';
import { isDoomed, type Needed } from './doomed.ts';
import { storeHold } from './holds.ts';
import { Journal } from './journal.ts';
import { type PathRecord, pathRecord, storeClaim } from './path-record.ts';

/** A claim of this age is of a commit that was given up, and keeps nothing any more. */
export const CLAIM_LIFETIME_MS = 60 * 60 * 1000;
/** An older claim of the same content is made anew rather than shared. */
const SHARED_LIFETIME_MS = CLAIM_LIFETIME_MS / 2;

/**
 * Claims a path for a commit: from now on, no collection takes what the commit is about to verify, until the claim has
 * become a narinfo. A commit that fails leaves it: the next one finds it, and what the publisher sends again is safe too.
 * @param options.stored - the revision of the narinfo, when the path is listed: that keeps the path and what it refers to. What
 * is about to be listed may be other chunks, which are held then.
 * @returns the revision that the narinfo is to replace; undefined when another publisher has listed the path meanwhile.
 */
export async function claimPath(
  jetstream: JetStream,
  { entry, decoded }: { entry: Entry; decoded: DecodedEntry },
  options: { stored: number | undefined; signal: AbortSignal },
): Promise<number | undefined> {
  const { info, manifest } = decoded;
  const revision = await claim(jetstream, { entry, path: info.storePath }, options);
  if (revision === undefined) return undefined;
  // A collection that has not seen the claim has announced before what it deletes, so that it is seen here.
  const needed = neededBy(info, new Set(manifest.chunks.map(({ id }) => id)));
  await new Journal(jetstream).settled((doomed) => isDoomed(doomed, needed), options.signal);
  return revision;
}

/** What a path that is about to be listed needs to stay. */
function neededBy({ storePath, references, narHash }: NarInfo, chunks: Needed['chunks']): Needed {
  return {
    paths: new Set([storePath, ...references].map(storePathHash)),
    manifests: new Set([narHashDigits(narHash)]),
    chunks,
  };
}

async function claim(
  jetstream: JetStream,
  { entry, path }: { entry: Entry; path: StorePath },
  { stored, signal }: { stored: number | undefined; signal: AbortSignal },
): Promise<number | undefined> {
  const task = { action: `claim "${path}"`, signal };
  for (;;) {
    const found = await pathRecord(jetstream, path, task);
    if (found?.state === 'listed') {
      if (found.info.storePath !== path) throw sameHash(path, found.info.storePath);
      if (found.seq !== stored) return undefined;
      await storeHold(jetstream, entry.manifest, task);
      return stored;
    }
    if (found !== undefined && isShared(found, entry)) return found.seq;
    const entries = withOthers(found, entry, maxBody(jetstream.nc));
    const seq = await storeClaim(jetstream, { path, entries }, { ...task, previous: found?.seq ?? 0 });
    if (seq !== undefined) return seq;
  }
}

/** Whether a record is a claim on the same content: publishers of one path must not drive each other's claims out. */
function isShared(record: PathRecord, { manifest }: Entry): boolean {
  if (record.state !== 'claimed' || Date.now() - record.time > SHARED_LIFETIME_MS) return false;
  return record.entries.some((other) => Buffer.compare(other.manifest, manifest) === 0);
}

/** What a new claim holds: also what others are about to list, where there is room for it. */
function withOthers(found: PathRecord | undefined, entry: Entry, limit: number): Entry[] {
  const others = found?.state === 'claimed' && Date.now() - found.time < SHARED_LIFETIME_MS ? found.entries : [];
  const all = [...others, entry];
  return encodeEntries(all).length <= limit ? all : [entry];
}

function sameHash(path: StorePath, other: StorePath): CacheError {
  return new CacheError('CACHE_PATH_CONFLICT', `Cannot add "${path}": the cache has "${other}" under its hash part`, {
    hint: 'One of the two has a made-up hash; remove the other one from the cache first if it is that',
    storePath: path,
  });
}
