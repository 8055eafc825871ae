import type { PathSource, StorePath } from '@nex-nix/nix';
import { call } from '../protocol/call.ts';
import { CacheError } from '../errors.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import { encodePaths, PATHS_PER_REQUEST, SUBJECTS } from '../protocol/protocol.ts';
import { type PushAgainOptions, pushClosure, type PushReport } from '../push/push.ts';

/** Collections that one push gets over. */
const ATTEMPTS = 10;
/** What a collection beside a push can make of it: it took what the push was told was there. */
const COLLECTED: ReadonlySet<string> = new Set(['CACHE_REFERENCE_MISSING', 'CACHE_CHUNK_MISSING']);

/**
 * Pushes a closure, and begins again where a collection has taken what the push counted on; what was done is kept. Notes the
 * use of the roots.
 */
export async function pushUnbroken(
  jetstream: JetStream,
  closure: { source: PathSource; roots: readonly StorePath[] },
  options: PushAgainOptions,
): Promise<PushReport> {
  const { roots } = closure;
  const report = await pushAgain(jetstream, closure, options);
  for (let at = 0; at < roots.length; at += PATHS_PER_REQUEST) {
    const body = encodePaths(roots.slice(at, at + PATHS_PER_REQUEST));
    const task = { action: 'tell the cache what is used', signal: options.signal };
    await call(jetstream, { subject: SUBJECTS.used, body }, task);
  }
  return report;
}

async function pushAgain(
  jetstream: JetStream,
  closure: { source: PathSource; roots: readonly StorePath[] },
  options: PushAgainOptions,
): Promise<PushReport> {
  const started = performance.now();
  for (let left = ATTEMPTS; ; left--) {
    try {
      const report = await pushClosure(jetstream, closure, options);
      return left === ATTEMPTS ? report : { ...report, durationMs: performance.now() - started };
    } catch (error) {
      if (left === 0 || !(error instanceof CacheError) || !COLLECTED.has(error.code)) throw error;
    }
  }
}
