import { resolve } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { Command } from 'commander';
import { CliError } from '../cli-error.ts';
import { action, type Context } from '../context.ts';
import { nexCommand } from '../dev/nex-command.ts';
import { addTarget, type Target } from '../dev/target.ts';

interface Options extends Target {
  yes?: boolean;
}

export const devInit = (): Command =>
  addTarget(
    new Command('init')
      .description('Remove all data of dev services, keys and credentials included, and make new ones')
      .option('--yes', 'do not ask'),
  )
    .addHelpText(
      'after',
      '\nOnly what dev services have made is removed: other files in the folder stay. It refuses while they run.' +
        '\n\nExamples:\n  nex dev init\n  nex dev init --yes --data-dir ~/nex',
    )
    .action(
      action<Options>(async (context, options) => {
        const dataDir = resolve(options.dataDir);
        const { wipe } = await import('@nex-nix/devenv');
        const goes = await wipe(dataDir, { dryRun: true });
        if (goes.length > 0) {
          context.say(
            [`In "${dataDir}" these go, with all that is in them:`, ...goes.map((path) => `  ${path}`)].join('\n'),
          );
          if (options.yes !== true) await askFor(context, dataDir);
        }
        context.signal.throwIfAborted();
        const removed = await wipe(dataDir, { command: nexCommand() });
        return {
          value: { dataDir, removed },
          text: `Made anew in "${dataDir}": operator, accounts, users. Start: nex dev`,
        };
      }),
    );

/** Resolves when the user agrees. */
async function askFor(context: Context, dataDir: string): Promise<void> {
  if (!process.stdin.isTTY || context.globals.json === true) {
    throw new CliError('CLI_DEV_NOT_CONFIRMED', `Cannot remove what is in "${dataDir}": nobody can be asked`, {
      hint: 'Add --yes if all of it may go',
    });
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await terminal.question('Remove all of it? [y/N] ', { signal: context.signal });
    if (/^y(?:es)?$/i.test(answer.trim())) return;
  } finally {
    terminal.close();
  }
  throw new CliError('CLI_INTERRUPTED', 'Nothing was removed');
}
