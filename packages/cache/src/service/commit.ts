import { checkTrust, type NarInfo, signPathInfo, type StorePath } from '@nex-nix/nix';
import { claimPath } from '../care/claims.ts';
import { cacheNarInfo, decodeEntry, type DecodedEntry, type Entry, readNarInfo } from '../manifests/entry.ts';
import { CacheError } from '../errors.ts';
import type { IndexStore, StoredNarInfo } from './index-store.ts';
import { mapOrdered } from '../tasks/map-ordered.ts';
import type { CommitOutcome, ListOutcome, Receipt, VerifiedPath, VerifyOutcome } from '../protocol/protocol.ts';
import { isReceiptFor, makeReceipt } from './receipt.ts';
import { requireSameContent } from './same-content.ts';
import type { ServiceContext } from './service-context.ts';
import { storeManifest, verifyContent } from './verify-content.ts';

/** References looked up at once. */
const REFERENCE_WINDOW = 16;

/** A path that is claimed for one publisher, with content that was verified. */
interface Claim {
  /** What was listed when the path was claimed. */
  readonly stored: StoredNarInfo | undefined;
  /** Of the record of the path, which the narinfo is to replace. */
  readonly revision: number;
}

/**
 * Lists a path whose chunks have been stored, and whose references are listed: reads the chunks back, verifies the NAR, signs
 * the path, and writes manifest and narinfo in this order. Nothing that the publisher says of the content is believed; that it
 * may publish at all is what the NATS permission on the subject says.
 *
 * May be repeated, also by several publishers and services at once.
 */
export async function commitPath(context: ServiceContext, entry: Entry, signal: AbortSignal): Promise<CommitOutcome> {
  const decoded = decodeEntry(entry, 'commit');
  for (;;) {
    const claim = await claimVerified(context, { entry, decoded }, signal);
    if (claim === undefined) return { outcome: 'present' };
    await requireReferences(context.index, decoded.info, { signal });
    const outcome = await listPath(context, decoded.info, { ...claim, signal });
    // Otherwise somebody else has listed the path, or a collection has removed it: what was verified may be gone by now.
    if (outcome !== undefined) return outcome;
  }
}

/**
 * The first half of {@link commitPath}: all but the listing, so that the content of paths can be verified while what they refer
 * to is still coming. The second half is {@link listVerified}, by any service that has the same key.
 */
export async function verifyPath(context: ServiceContext, entry: Entry, signal: AbortSignal): Promise<VerifyOutcome> {
  const decoded = decodeEntry(entry, 'verify');
  for (;;) {
    const claim = await claimVerified(context, { entry, decoded }, signal);
    if (claim === undefined) return { outcome: 'present' };
    const { stored, revision } = claim;
    if (stored === undefined) return { outcome: 'verified', receipt: makeReceipt(context, decoded.info, revision) };
    // It is listed already, and so are its references: nothing is to be waited for before another signature is added.
    const outcome = await listPath(context, decoded.info, { ...claim, signal });
    if (outcome !== undefined) return outcome;
  }
}

/**
 * Lists paths that were verified, each after those of them that it refers to, which must come before it. Independent ones
 * are listed at once.
 * @returns the outcome of each: `stale` when its verification does not hold any more and is to be repeated, or when this is so for
 *   a path that it refers to.
 */
export async function listVerified(
  context: ServiceContext,
  paths: readonly VerifiedPath[],
  signal: AbortSignal,
): Promise<ListOutcome[]> {
  const outcomes = new Map<StorePath, Promise<ListOutcome>>();
  const all = paths.map(({ narInfo, receipt }) => {
    const info = readNarInfo(narInfo, 'list');
    const before = new Map(info.references.flatMap((path) => withKey(path, outcomes.get(path))));
    const outcome = listOne(context, { info, receipt }, { before, signal });
    outcomes.set(info.storePath, outcome);
    return outcome;
  });
  await Promise.allSettled(all);
  return Promise.all(all);
}

function withKey<K, V>(key: K, value: V | undefined): [K, V][] {
  return value === undefined ? [] : [[key, value]];
}

async function listOne(
  context: ServiceContext,
  { info, receipt }: { info: NarInfo; receipt: Receipt },
  { before, signal }: { before: ReadonlyMap<StorePath, Promise<ListOutcome>>; signal: AbortSignal },
): Promise<ListOutcome> {
  if (!isReceiptFor(context, info, receipt)) return { outcome: 'stale' };
  if ((await Promise.all(before.values())).some(({ outcome }) => outcome === 'stale')) return { outcome: 'stale' };
  await requireReferences(context.index, info, { listed: before, signal });
  const claim = { stored: undefined, revision: receipt.revision, signal };
  return (await listPath(context, info, claim)) ?? { outcome: 'stale' };
}

/** Claims a path, verifies its content and stores its manifest; undefined when it is listed, and nothing is left to do. */
async function claimVerified(
  context: ServiceContext,
  { entry, decoded }: { entry: Entry; decoded: DecodedEntry },
  signal: AbortSignal,
): Promise<Claim | undefined> {
  const { info } = decoded;
  for (;;) {
    const stored = await context.index.narInfo(info.storePath, signal);
    if (stored !== undefined && isDone(context, stored, info) && (await hasManifest(context.index, stored, signal))) {
      return undefined;
    }
    const revision = await claimPath(context.jetstream, { entry, decoded }, { stored: stored?.revision, signal });
    if (revision === undefined) continue;
    await verifyContent(context, decoded, signal);
    await storeManifest(context, info, { body: entry.manifest, signal });
    return { stored, revision };
  }
}

/** Whether a stored narinfo leaves nothing to do; throws when it is of other content. */
function isDone({ publicKey }: ServiceContext, { info: stored }: StoredNarInfo, info: NarInfo): boolean {
  requireSameContent(stored, info, 'add');
  return checkTrust(stored, [publicKey]).trusted;
}

/** Whether a listed path has the manifest that it needs to be pulled: one that was lost is stored again by the next commit. */
async function hasManifest(index: IndexStore, { text, info }: StoredNarInfo, signal: AbortSignal): Promise<boolean> {
  const manifest = await index.manifest(info.narHash, signal);
  if (manifest === undefined) return false;
  try {
    decodeEntry({ narInfo: text, manifest }, 'commit');
    return true;
  } catch (error) {
    if (error instanceof CacheError && error.code === 'CACHE_MANIFEST_INVALID') return false;
    throw error;
  }
}

/** @param options.listed - references that are known to be listed. */
async function requireReferences(
  index: IndexStore,
  info: NarInfo,
  { listed, signal }: { listed?: ReadonlyMap<StorePath, unknown>; signal: AbortSignal },
): Promise<void> {
  const others = info.references.filter((path) => path !== info.storePath && listed?.has(path) !== true);
  const lookUp = async (path: StorePath, inner: AbortSignal) => ({ path, found: await index.narInfo(path, inner) });
  for await (const { path, found } of mapOrdered(others, lookUp, { window: REFERENCE_WINDOW, signal })) {
    if (found !== undefined) continue;
    throw new CacheError(
      'CACHE_REFERENCE_MISSING',
      `Cannot add "${info.storePath}": "${path}", which it refers to, is not in the cache`,
      { hint: 'Push the whole closure, references first', storePath: info.storePath },
    );
  }
}

async function listPath(
  context: ServiceContext,
  info: NarInfo,
  claim: { stored: StoredNarInfo | undefined; revision: number; signal: AbortSignal },
): Promise<CommitOutcome | undefined> {
  const { signal } = claim;
  let { revision, stored: found } = claim;
  for (;;) {
    const text = cacheNarInfo(signed(context, info, found));
    if (await context.index.storeNarInfo(info.storePath, text, { revision, signal })) {
      return { outcome: 'added' };
    }
    // Somebody else has listed it since: either there is nothing left to do, or our signature goes beside theirs.
    found = await context.index.narInfo(info.storePath, signal);
    if (found === undefined) return undefined;
    if (isDone(context, found, info)) return { outcome: 'present' };
    ({ revision } = found);
  }
}

/** The path info with the signatures of the publisher, of what is stored, and of this cache. */
function signed({ secretKey }: ServiceContext, info: NarInfo, stored: StoredNarInfo | undefined): NarInfo {
  const others = [...info.signatures, ...(stored?.info.signatures ?? [])].filter(
    (signature) => !signature.startsWith(`${secretKey.name}:`),
  );
  return { ...info, signatures: [...new Set([...others, signPathInfo(info, secretKey)])] };
}
