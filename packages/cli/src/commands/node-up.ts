import { homedir } from 'node:os';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { action } from '../context.ts';
import { parseTags } from '../parse.ts';
import type { NodeDaemonOptions } from '../node-daemon.ts';

export const nodeUp = (): Command =>
  new Command('up')
    .description('Run a node on this machine, with the nix nexlet and its cache')
    .option('--node-name <name>', 'name of the node; default: the host name')
    .option('--nexus <name>', 'group of nodes it belongs to', 'nexus')
    .option('--tags <tags>', 'k=v;k2=v2: what workloads may ask for', parseTags)
    .option('--state-dir <folder>', 'identity, store, sandboxes and cache key', defaultStateDir())
    .option(
      '--issuer-signing-key <seed>',
      'account signing key that mints credentials: SA…, or a file with it (NEX_ISSUER_SIGNING_KEY)',
    )
    .option('--issuer-signing-key-root-account <key>', 'public key of that account: A… (NEX_ISSUER_ROOT_ACCOUNT)')
    .option(
      '--trusted-public-keys <keys>',
      "more keys to trust, Nix's syntax, separated by spaces; the cache's own is trusted",
    )
    .option('--cache-key-file <file>', 'key that its cache signs with; default: one of its own in the state folder')
    .option('--allow-unlimited', 'run workloads even where this machine cannot enforce their limits')
    .addOption(
      new Option('--on-shutdown <what>', 'what happens to running workloads when the node ends')
        .choices(['stop', 'leave'])
        .default('stop'),
    )
    .addOption(new Option('--until-stdin-ends', 'stop when standard input ends: for a supervising process').hideHelp())
    .action(
      action<NodeDaemonOptions>(async (context, options) => {
        const { runNodeDaemon } = await import('../node-daemon.ts');
        await runNodeDaemon(context, options);
        return undefined;
      }),
    );

function defaultStateDir(): string {
  if (process.getuid?.() === 0) return '/var/lib/nex-nix';
  return join(process.env['XDG_STATE_HOME'] ?? join(homedir(), '.local/state'), 'nex-nix');
}
