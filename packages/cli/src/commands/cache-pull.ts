import type { NatsCache } from '@nex-nix/cache';
import { isNexError } from '@nex-nix/errors';
import type { PublicKey } from '@nex-nix/nix';
import { Command } from 'commander';
import { parseCached, resolveCached } from '../cached-path.ts';
import { CliError } from '../cli-error.ts';
import { action } from '../context.ts';
import { openCache } from '../open-cache.ts';
import { formatBytes } from '../output.ts';
import { showProgress } from '../progress.ts';

interface Options {
  to: string;
  trustedPublicKeys?: string;
  trustCache?: boolean;
}

export const cachePull = (): Command =>
  new Command('pull')
    .description('Fetch store paths and all they refer to into a store that needs no Nix, verified')
    .argument('<paths...>', 'store paths, or cache:NAME for what is pinned')
    .requiredOption('--to <folder>', 'the store: contents in <folder>/nix/store; made when absent')
    .option(
      '--trusted-public-keys <keys>',
      "keys of which one must have signed each path, Nix's syntax, separated by spaces",
    )
    .option('--trust-cache', 'trust the key that the cache itself says it signs with')
    .addHelpText(
      'after',
      '\nExamples:\n  nex cache pull cache:echo --to ./store --trusted-public-keys "cache.example.org-1:…"\n' +
        '  nex cache pull /nix/store/…-echo-1.0.0 --to ./store --trust-cache',
    )
    .action(
      action<Options>(async (context, options, ...texts) => {
        const [{ copyClosure, LocalStore, parsePublicKey }, { LocalChunks }] = await Promise.all([
          import('@nex-nix/nix'),
          import('@nex-nix/cache'),
        ]);
        const { signal } = context;
        const trustedKeys: PublicKey[] = (options.trustedPublicKeys ?? '')
          .split(/\s+/)
          .filter(Boolean)
          .map(parsePublicKey);
        const paths = await Promise.all(texts.map(parseCached));
        const cache = await openCache(context);
        if (options.trustCache === true) trustedKeys.push(cache.publicKey);
        const roots = [];
        for (const path of paths) roots.push(await resolveCached(cache, path, signal));
        await using store = await LocalStore.open({ dir: options.to, signal });
        using local = new LocalChunks(store);
        const started = performance.now();
        using progress = showProgress(context, 'Pulling', 'Pull again to go on: what came whole is not fetched twice');
        const copying = copyClosure(cache.reusing(local), store, roots, {
          trustedKeys,
          signal,
          onProgress: ({ copiedBytes, totalBytes, copiedPaths, totalPaths }) =>
            progress.update({
              done: copiedBytes,
              total: totalBytes,
              text: `${formatBytes(copiedBytes)} of ${formatBytes(totalBytes)}, ${copiedPaths} of ${totalPaths} paths`,
            }),
        });
        const { copied, narBytes } = await copying.catch((error: unknown) => {
          throw explainTrust(error, cache);
        });
        const durationMs = performance.now() - started;
        const { reusedBytes } = local;
        const reused = reusedBytes === 0 ? '' : `, ${formatBytes(reusedBytes)} of it taken from what was there`;
        const what =
          copied.length === 0
            ? 'all there already'
            : `${copied.length} paths, ${formatBytes(narBytes)}${reused}, every NAR hash verified`;
        return {
          value: {
            storePaths: roots,
            realPaths: roots.map((path) => store.realPath(path)),
            copied,
            narBytes,
            reusedBytes,
            durationMs,
          },
          text: [
            `Pulled ${what} (${(durationMs / 1_000).toFixed(1)} s)`,
            ...roots.map((path) => store.realPath(path)),
          ].join('\n'),
        };
      }),
    );

/** Says which options make a path trusted; the key itself is for the user to judge. */
function explainTrust(error: unknown, cache: NatsCache): unknown {
  if (!isNexError(error) || error.code !== 'NIX_PATH_UNTRUSTED') return error;
  return new CliError('CLI_PATH_UNTRUSTED', error.message, {
    cause: error,
    hint:
      "Name the signer's key by --trusted-public-keys; or believe what the cache says of itself: --trust-cache " +
      `(it signs with "${cache.publicKey.name}": nex cache info)`,
  });
}
