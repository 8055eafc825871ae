import type { PathSource } from '@nex-nix/nix';
import { Command } from 'commander';
import { action } from '../context.ts';
import { openCache } from '../open-cache.ts';
import { showProgress } from '../progress.ts';

interface Options {
  repair?: boolean;
  repairFrom?: string;
}

export const cacheVerify = (): Command =>
  new Command('verify')
    .description('Read everything in the cache and compare it with its hashes; ends with 1 when damage stays')
    .option('--repair', 'push damaged chunks again from the Nix store of this machine')
    .option('--repair-from <folder>', 'the same from a store made by nex cache pull, or of a node')
    .addHelpText('after', '\nExamples:\n  nex cache verify\n  nex cache verify --repair')
    .action(
      action<Options>(async (context, options) => {
        await using stack = new AsyncDisposableStack();
        const { signal } = context;
        const repair = await openRepairSource(options, stack, signal);
        const cache = await openCache(context);
        const { chunks } = await cache.stat({ signal });
        using progress = showProgress(context, 'Verifying', 'Nothing is half-done; a verification begins anew');
        const report = await cache.verify({
          signal,
          repair,
          onProgress: ({ checkedPaths, checkedChunks }) =>
            progress.update({
              done: checkedChunks,
              total: chunks,
              text: `${checkedChunks} of ${chunks} chunks, ${checkedPaths} paths`,
            }),
        });
        const { checkedChunks, checkedPaths, damaged, broken } = report;
        const left = damaged.filter(({ outcome }) => outcome !== 'repaired');
        const text = [
          ...damaged.map(
            ({ chunk, kind, paths, outcome }) => `chunk ${chunk} ${kind}, ${outcome}; needed by:\n${indented(paths)}`,
          ),
          ...broken.map(({ storePath, why }) => `${storePath} cannot be pulled: ${why}`),
          `Checked ${checkedPaths} paths and ${checkedChunks} chunks: ${damaged.length} damaged, ` +
            `${damaged.length - left.length} repaired`,
        ];
        return { value: report, text: text.join('\n'), exitCode: left.length + broken.length === 0 ? 0 : 1 };
      }),
    );

async function openRepairSource(
  { repair = false, repairFrom }: Options,
  stack: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<PathSource | undefined> {
  if (!repair && repairFrom === undefined) return undefined;
  const { LocalStore, NixStore } = await import('@nex-nix/nix');
  return repairFrom === undefined ? new NixStore() : stack.use(await LocalStore.open({ dir: repairFrom, signal }));
}

function indented(paths: readonly string[]): string {
  return paths.map((path) => `  ${path}`).join('\n');
}
