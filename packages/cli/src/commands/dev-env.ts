import { resolve } from 'node:path';
import { Command } from 'commander';
import { action } from '../context.ts';
import { addTarget, type Target } from '../dev/target.ts';

export const devEnv = (): Command =>
  addTarget(new Command('env').description('Print the variables that point nats, nsc, nex and Nix at the dev services'))
    .addHelpText(
      'after',
      '\nFor POSIX shells; --json for others. Also when nothing runs: then as of the last start, and what none can know is left out.' +
        '\n\nExamples:\n  eval "$(nex dev env)"\n  nex dev env --json --data-dir ~/nex',
    )
    .action(
      action<Target>(async (_context, target) => {
        const { findRunning } = await import('../dev/target.ts');
        const { exportLines } = await import('../dev/shell-words.ts');
        await using running = await findRunning(target);
        const environment = await (async () => {
          if (running !== undefined) return (await running.status()).environment;
          const { devEnvironment } = await import('@nex-nix/devenv');
          return devEnvironment(resolve(target.dataDir));
        })();
        return { value: environment, text: exportLines(environment).join('\n') };
      }),
    );
