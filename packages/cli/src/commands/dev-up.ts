import { Command, Option } from 'commander';
import { action, type Context } from '../context.ts';
import type { Result } from '../output.ts';
import { addUpOptions, type UpOptions } from '../dev/up-options.ts';

interface Options extends UpOptions {
  detach?: boolean;
  view: boolean;
  reportsBack?: boolean;
}

/** Exit code when what runs already is not what it should be. */
const NOT_READY = 1;

export const devUp = (): Command =>
  addUpOptions(
    new Command('up')
      .description('Start NATS services for development, in this terminal or in the background')
      .argument('[node-options...]', 'after --: options of nex node up, for --node'),
  )
    .option('-d, --detach', 'start in the background, and end when all is ready')
    .option('--no-view', 'the log line by line, also on a terminal')
    .addOption(new Option('--reports-back', 'tell a parent process what becomes of it').hideHelp())
    .addHelpText(
      'after',
      '\nOn a terminal: a view of services and log with keys, ? shows them. Elsewhere, or with --no-view: the log line by line;' +
        '\nwith --json an object a line: what is printed, and the status when all is ready.' +
        '\n\nWhat runs already is not started twice: -d shows it and ends with 0 if all of it is ready, else with 1; in the' +
        '\nforeground it is an error (exit code 4). It keeps the options that it was started with until nex dev down.' +
        '\n\nExamples:\n  nex dev\n  nex dev up -d --data-dir ~/nex --port 4333 --cache-port 8090\n  sudo -E nex dev --node -- --tags region=lab',
    )
    .action(
      action<Options>(async (context, options, ...nodeArguments) => {
        const { startOptions } = await import('../dev/up-options.ts');
        const start = startOptions(options, nodeArguments);
        if (options.detach === true) return detached(context, options, nodeArguments);
        const { runInForeground } = await import('../dev/run-in-foreground.ts');
        await runInForeground(context, { start, view: options.view, reportsBack: options.reportsBack ?? false });
        return undefined;
      }),
    );

async function detached(context: Context, options: Options, nodeArguments: readonly string[]): Promise<Result> {
  const { findRunning, sameTarget } = await import('../dev/target.ts');
  const { serviceTable, usage } = await import('../dev/summary.ts');
  const { signal } = context;
  await using running = await findRunning(options);
  if (running !== undefined) {
    const { isUp } = await import('../dev/service-style.ts');
    const { untilStarted } = await import('../dev/until-started.ts');
    const status = await untilStarted(running, signal);
    const text = `${serviceTable(status)}\nThese run already (process ${status.pid}), with the options of their start`;
    return { value: status, text, exitCode: status.services.every(isUp) ? 0 : NOT_READY };
  }
  const { startInBackground } = await import('../dev/background.ts');
  const status = await startInBackground(options, nodeArguments, {
    signal,
    onFailed: (lines) => lines.forEach((line) => context.say(line)),
  });
  const same = sameTarget(options);
  const next = ['status', 'logs -f', 'down'].map((command) => `nex dev ${command}${same}`).join(' | ');
  return { value: status, text: [...usage(status), `In the background: ${next}`].join('\n') };
}
