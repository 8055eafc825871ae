import { setTimeout as delay } from 'node:timers/promises';
import type { SignalOptions, StorePath } from '@nex-nix/nix';
import { call } from '../protocol/call.ts';
import { readNarInfo } from '../manifests/entry.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import { decodeJson, encodePaths, SUBJECTS } from '../protocol/protocol.ts';
import type { CollectionProgress } from './collection-lock.ts';
import type { CollectionRequest, GarbageReport } from './collector.ts';
import type { PathPage } from './path-page.ts';
import { checkPinName, type Pin } from './pins.ts';
import type { RemoveReport } from './removal.ts';

/** A path that the cache lists. */
export interface CachePath {
  readonly storePath: StorePath;
  readonly narHash: string;
  readonly narSize: number;
  readonly references: readonly StorePath[];
  readonly deriver?: string;
  readonly pushedAt: Date;
}

/** A name and the paths that it keeps from being collected. */
export interface CachePin {
  readonly name: string;
  /** The newest first. */
  readonly versions: readonly { readonly storePath: StorePath; readonly since: Date }[];
}

export interface PinOptions extends SignalOptions {
  /** Versions that the pin keeps, this one included. @default 3 */
  keep?: number | undefined;
}

export interface RemoveOptions extends SignalOptions {
  /** Removes also what refers to the paths, and takes both out of the pins. */
  force?: boolean | undefined;
}

export interface CollectOptions extends SignalOptions {
  /** Removes paths that were neither pushed nor asked for in so many ms. */
  olderThan?: number | undefined;
  /** Removes paths, those first that were not used longest, until the chunks of all take no more than this. */
  maxBytes?: number | undefined;
  /**
   * How long content stays, in ms, that no path needs any more, or not yet: for pulls and pushes that are under way.
   * @default 600_000
   */
  grace?: number | undefined;
  /** Changes nothing, and reports what would be done. */
  dryRun?: boolean | undefined;
  /** Called a few times a second. */
  onProgress?: ((progress: CollectionProgress) => void) | undefined;
}

const DEFAULT_KEEP = 3;
const PROGRESS_MS = 250;

/** All listed paths, in the order in which they were pushed. */
export async function* listPaths(jetstream: JetStream, signal: AbortSignal | undefined): AsyncGenerator<CachePath> {
  for (let cursor: number | undefined | '' = ''; cursor !== undefined;) {
    const question = { subject: SUBJECTS.list, body: String(cursor) };
    const answer = await call(jetstream, question, { action: 'list the paths of the cache', signal });
    const page = decodeJson(answer, 'its paths') as PathPage;
    for (const { narInfo, pushedAt } of page.paths) {
      const { storePath, narHash, narSize, references, deriver } = readNarInfo(narInfo, 'the list of paths');
      const path = { storePath, narHash, narSize, references, pushedAt: new Date(pushedAt) };
      yield deriver === undefined ? path : { ...path, deriver };
    }
    cursor = page.next;
  }
}

/** All pins, by name. */
export async function listPins(jetstream: JetStream, signal: AbortSignal | undefined): Promise<CachePin[]> {
  const answer = await call(jetstream, { subject: SUBJECTS.pins }, { action: 'list the pins of the cache', signal });
  return (decodeJson(answer, 'its pins') as Pin[]).map(({ name, versions }) => ({
    name,
    versions: versions.map(({ storePath, since }) => ({ storePath, since: new Date(since) })),
  }));
}

export async function pinPath(
  jetstream: JetStream,
  { name, storePath }: { name: string; storePath: StorePath },
  { keep = DEFAULT_KEEP, signal }: PinOptions,
): Promise<void> {
  checkPinName(name);
  const body = JSON.stringify({ name, storePath, keep });
  await call(jetstream, { subject: SUBJECTS.pin, body }, { action: `pin "${storePath}" as "${name}"`, signal });
}

export async function unpinName(jetstream: JetStream, name: string, signal: AbortSignal | undefined): Promise<boolean> {
  checkPinName(name);
  const question = { subject: SUBJECTS.unpin, body: JSON.stringify({ name }) };
  return decodeJson(await call(jetstream, question, { action: `unpin "${name}"`, signal }), 'a pin') === true;
}

/** The newest version of a pin. */
export async function resolvePin(
  jetstream: JetStream,
  name: string,
  signal: AbortSignal | undefined,
): Promise<StorePath | undefined> {
  checkPinName(name);
  const pins = await listPins(jetstream, signal);
  return pins.find((pin) => pin.name === name)?.versions[0]?.storePath;
}

export async function removeFromCache(
  jetstream: JetStream,
  paths: readonly StorePath[],
  { force = false, signal }: RemoveOptions,
): Promise<RemoveReport> {
  const question = { subject: SUBJECTS.remove, body: JSON.stringify({ paths: encodePaths(paths), force }) };
  return decodeJson(
    await call(jetstream, question, { action: 'remove paths from the cache', signal }),
    'a removal',
  ) as RemoveReport;
}

/** Has the service collect; an abort ends the waiting, not the collection. */
export async function collect(
  jetstream: JetStream,
  { signal, onProgress, ...options }: CollectOptions,
): Promise<GarbageReport> {
  const request: Partial<CollectionRequest> = options;
  const question = { subject: SUBJECTS.collect, body: JSON.stringify(request) };
  const done = new AbortController();
  const watching = onProgress === undefined ? undefined : watch(jetstream, onProgress, done.signal);
  try {
    const answer = await call(jetstream, question, { action: 'collect garbage in the cache', signal });
    return decodeJson(answer, 'a collection') as GarbageReport;
  } finally {
    done.abort();
    await watching;
  }
}

async function watch(
  jetstream: JetStream,
  onProgress: (progress: CollectionProgress) => void,
  signal: AbortSignal,
): Promise<void> {
  try {
    for (;;) {
      await delay(PROGRESS_MS, undefined, { signal });
      const answer = await call(
        jetstream,
        { subject: SUBJECTS.collection },
        { action: 'ask for the progress', signal },
      );
      const progress = decodeJson(answer, 'a collection') as CollectionProgress | null;
      if (progress !== null) onProgress(progress);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
