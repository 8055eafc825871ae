import type { NatsCache, PushReport } from '@nex-nix/cache';
import type { ResolvedInstallable } from '@nex-nix/nix';
import type { Context } from './context.ts';
import { formatBytes } from './output.ts';
import { showProgress } from './progress.ts';

/** Pushes the closures of what was resolved, shows progress, and says in a line what was done. */
export async function pushTargets(
  context: Context,
  cache: NatsCache,
  targets: readonly ResolvedInstallable[],
): Promise<PushReport> {
  const reports: PushReport[] = [];
  using progress = showProgress(context, 'Pushing', 'Push again to go on: what was sent is not sent twice');
  for (const group of bySource(targets)) {
    const roots = group.map(({ storePath }) => storePath);
    const report = await cache.push(group[0].source, roots, {
      signal: context.signal,
      onProgress: ({ paths, narBytes }) =>
        progress.update({
          ...narBytes,
          text: `${formatBytes(narBytes.done)} of ${formatBytes(narBytes.total)}, ${paths.done} of ${paths.total} paths`,
        }),
    });
    reports.push(report);
  }
  return reports.reduce(sum);
}

/** What a push did, in a line. */
export function describePush(targets: readonly ResolvedInstallable[], report: PushReport): string {
  const { paths, chunks, sentBytes, durationMs } = report;
  const what = targets.length === 1 ? `Closure of ${targets[0]?.storePath}` : `Closures of ${targets.length} paths`;
  const sent =
    paths.pushed === 0
      ? 'all there already'
      : `${paths.pushed} pushed, ${formatBytes(sentBytes)} in ${chunks.sent} chunks sent`;
  return `${what}: ${paths.total} paths, ${sent} (${(durationMs / 1_000).toFixed(1)} s)`;
}

type Group = [ResolvedInstallable, ...ResolvedInstallable[]];

/** What is in the Nix store of this machine goes together, so that what closures share is counted once; what was published is a source of its own. */
function bySource(targets: readonly ResolvedInstallable[]): Group[] {
  const groups: Group[] = [];
  let inStore: Group | undefined;
  for (const target of targets) {
    if (target.published === undefined && inStore !== undefined) inStore.push(target);
    else {
      const group: Group = [target];
      groups.push(group);
      if (target.published === undefined) inStore = group;
    }
  }
  return groups;
}

function sum(a: PushReport, b: PushReport): PushReport {
  return {
    ...b,
    paths: {
      total: a.paths.total + b.paths.total,
      pushed: a.paths.pushed + b.paths.pushed,
      present: a.paths.present + b.paths.present,
    },
    narBytes: a.narBytes + b.narBytes,
    chunks: { total: a.chunks.total + b.chunks.total, sent: a.chunks.sent + b.chunks.sent },
    sentBytes: a.sentBytes + b.sentBytes,
    durationMs: a.durationMs + b.durationMs,
  };
}
