import { resolve } from 'node:path';
import type { GuestImagePath, MinimalGuestOptions } from '@nex-nix/guest';
import { Command, Option } from 'commander';
import { CliError } from '../cli-error.ts';
import { action, type Context } from '../context.ts';
import { describeGuest } from '../describe-guest.ts';

interface Options {
  output: string;
  replace?: boolean;
  kernel?: string;
  modules?: string;
  kernelPackage?: string;
  storePath?: string[];
}

export const guestBuild = (): Command =>
  new Command('build')
    .description('Build a minimal guest: a kernel, this machine’s Node, and the agent')
    .requiredOption('--output <folder>', 'where to; appears whole, at the end')
    .option('--replace', 'put it in the place of an image that is there')
    .option('--kernel <file>', 'vmlinuz or vmlinux; default: the kernel of this machine')
    .option('--modules <folder>', 'modules of that kernel, like /lib/modules/6.1.0-56-cloud-amd64')
    .addOption(
      new Option('--kernel-package <file>', 'Debian package of a kernel instead (linux-image-….deb)').conflicts([
        'kernel',
        'modules',
      ]),
    )
    .option(
      '--store-path <installable...>',
      'store paths to hold with all they refer to: disks of workloads leave them out, and a Node among them runs the agent',
    )
    .addHelpText(
      'after',
      '\nWants root, or user namespaces, and: apt-get install erofs-utils busybox-static' +
        '\n\nExamples:\n  nex guest build --output /var/lib/nex-nix/guest' +
        '\n  nex guest build --output guest --kernel-package linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb' +
        '\n  nex guest build --output guest --replace --store-path nixpkgs#nodejs_24',
    )
    .action(
      action<Options>(async (context, options) => {
        const { buildMinimalGuest } = await import('@nex-nix/guest');
        const { signal } = context;
        const output = resolve(options.output);
        const manifest = await buildMinimalGuest({
          output,
          replace: options.replace ?? false,
          ...kernelOf(options),
          storePaths: await storePathsOf(context, options.storePath ?? []),
          signal,
        });
        const text = `${describeGuest(output, manifest)}\nRun workloads in it: nex node up --guest-image ${output}`;
        return { value: { folder: output, manifest }, text };
      }),
    );

function kernelOf({ kernel, modules, kernelPackage }: Options): Pick<MinimalGuestOptions, 'kernel'> {
  if (kernelPackage !== undefined) return { kernel: { package: resolve(kernelPackage) } };
  if (kernel === undefined && modules === undefined) return {};
  if (kernel !== undefined && modules !== undefined) {
    return { kernel: { kernel: resolve(kernel), modules: resolve(modules) } };
  }
  throw new CliError('CLI_USAGE', 'Cannot build a guest from a kernel without its modules, or the reverse', {
    hint: 'Give both --kernel FILE and --modules FOLDER',
  });
}

/** The closures of what was named, out of the store of this machine. */
async function storePathsOf(context: Context, installables: readonly string[]): Promise<GuestImagePath[]> {
  if (installables.length === 0) return [];
  const { formatHash, NixStore, parseHash, queryClosure, resolveInstallable } = await import('@nex-nix/nix');
  const { signal } = context;
  const store = new NixStore();
  const roots = [];
  for (const text of installables) {
    const { storePath, source } = await resolveInstallable(text, { signal, onLog: (line) => context.say(line) });
    if (!(source instanceof NixStore)) {
      throw new CliError('CLI_USAGE', `Cannot put "${text}" into a guest: it is not in the Nix store of this machine`, {
        hint: 'Name a store path or a flake reference',
      });
    }
    roots.push(storePath);
  }
  const infos = await queryClosure(store, roots, { signal });
  return infos.map(({ storePath, narHash }) => ({
    storePath,
    source: store.realPath(storePath),
    narHash: formatHash(parseHash(narHash), 'sri'),
  }));
}
