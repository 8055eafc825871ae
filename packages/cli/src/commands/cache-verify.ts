import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { PathSource } from '@nex-nix/nix';
import { Command } from 'commander';
import { CliError } from '../cli-error.ts';
import { action } from '../context.ts';
import { openCache } from '../open-cache.ts';
import { showProgress } from '../progress.ts';

interface Options {
  repair?: boolean;
  repairFrom?: string;
}

const REPAIR_HINT =
  'To bring it back, on a machine that has the paths: nex cache verify --repair; or from the store of a node: --repair-from FOLDER';

export const cacheVerify = (): Command =>
  new Command('verify')
    .description('Read everything in the cache and compare it with its hashes; ends with 1 when damage stays')
    .option('--repair', 'push what is damaged again from the Nix store of this machine')
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
        const left = [...damaged, ...broken].filter(({ outcome }) => outcome !== 'repaired').length;
        const found = damaged.length + broken.length;
        const text = [
          ...damaged.map(
            ({ chunk, kind, paths, outcome }) => `chunk ${chunk} ${kind}, ${outcome}; needed by:\n${indented(paths)}`,
          ),
          ...broken.map(({ storePath, why, outcome }) => `${storePath} could not be pulled, ${outcome}: ${why}`),
          `Checked ${checkedPaths} paths and ${checkedChunks} chunks: ${found} damaged, ${found - left} repaired`,
        ];
        if (left > 0) context.say(REPAIR_HINT);
        return { value: report, text: text.join('\n'), exitCode: left === 0 ? 0 : 1 };
      }),
    );

async function openRepairSource(
  { repair = false, repairFrom }: Options,
  stack: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<PathSource | undefined> {
  if (!repair && repairFrom === undefined) return undefined;
  if (repairFrom !== undefined && !existsSync(join(repairFrom, 'nix/store'))) {
    throw new CliError('CLI_USAGE', `Cannot repair from "${repairFrom}": there is no store in it`, {
      hint: 'Name the folder that nex cache pull --to wrote into, or "store" in the state folder of a node',
    });
  }
  const { LocalStore, NixStore } = await import('@nex-nix/nix');
  return repairFrom === undefined ? new NixStore() : stack.use(await LocalStore.open({ dir: repairFrom, signal }));
}

function indented(paths: readonly string[]): string {
  return paths.map((path) => `  ${path}`).join('\n');
}
