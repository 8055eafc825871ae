import { resolve } from 'node:path';
import { Command } from 'commander';
import { action } from '../context.ts';
import { describeGuest } from '../describe-guest.ts';

export const guestShow = (): Command =>
  new Command('show')
    .description('Show what a guest image is; fails when a file of it is missing or has another size')
    .argument('<folder>', 'the folder of the image')
    .option('--verify', 'also compare every file with its hash')
    .addHelpText(
      'after',
      '\nExamples:\n  nex guest show /var/lib/nex-nix/guest\n  nex guest show ./guest --verify --json',
    )
    .action(
      action<{ verify?: boolean }>(async (context, { verify = false }, text) => {
        const { readGuestImage } = await import('@nex-nix/guest');
        const folder = resolve(text ?? '.');
        const manifest = await readGuestImage(folder, { verify, signal: context.signal });
        const matching = verify
          ? 'All files are those of the manifest'
          : 'All files are there (--verify compares hashes)';
        return {
          value: { folder, manifest, verified: verify },
          text: `${describeGuest(folder, manifest)}\n${matching}`,
        };
      }),
    );
