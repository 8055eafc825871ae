import { Command, CommanderError, Option } from 'commander';
import { exitCode } from '@nex-nix/errors';
import { CliError } from './cli-error.ts';
import { cacheGc } from './commands/cache-gc.ts';
import { cacheInfo } from './commands/cache-info.ts';
import { cacheKeygen } from './commands/cache-keygen.ts';
import { cacheLs } from './commands/cache-ls.ts';
import { cachePin } from './commands/cache-pin.ts';
import { cachePins } from './commands/cache-pins.ts';
import { cachePull } from './commands/cache-pull.ts';
import { cachePush } from './commands/cache-push.ts';
import { cacheRm } from './commands/cache-rm.ts';
import { cacheServe } from './commands/cache-serve.ts';
import { cacheUnpin } from './commands/cache-unpin.ts';
import { cacheVerify } from './commands/cache-verify.ts';
import { dev } from './commands/dev.ts';
import { devrun } from './commands/devrun.ts';
import { logs } from './commands/logs.ts';
import { nodeInfo } from './commands/node-info.ts';
import { nodeLameduck } from './commands/node-lameduck.ts';
import { nodeList } from './commands/node-list.ts';
import { nodeUp } from './commands/node-up.ts';
import { workloadList } from './commands/workload-list.ts';
import { workloadStart } from './commands/workload-start.ts';
import { workloadStop } from './commands/workload-stop.ts';
import type { GlobalOptions } from './context.ts';
import { printError } from './output.ts';
import { positive } from './parse.ts';
import { VERSION } from './version.ts';

/** Exit code of a command that was interrupted, as shells have it: 128 + SIGINT. */
const INTERRUPTED = 130;

/** Runs the command line; resolves with the exit code. Everything that goes wrong is printed here and nowhere else. */
export async function run(argv: readonly string[]): Promise<number> {
  const program = buildProgram();
  try {
    await program.parseAsync(argv, { from: 'user' });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      // Commander has printed its sentence already, unless it was asked for JSON.
      if (!wantsJson(argv)) return 2;
      printError(new CliError('CLI_USAGE', error.message.replace(/^error: /, '')), { json: true });
      return 2;
    }
    const options = program.opts<GlobalOptions>();
    if (isInterruption(error)) {
      if (options.json ?? wantsJson(argv)) printError(new CliError('CLI_INTERRUPTED', 'Interrupted'), { json: true });
      else process.stderr.write('Interrupted\n');
      return INTERRUPTED;
    }
    printError(error, { json: options.json ?? wantsJson(argv), debug: options.debug ?? false });
    return exitCode(error);
  }
}

function buildProgram(): Command {
  const program = new Command('nex')
    .description('Runs Nix store paths on NATS')
    .version(VERSION)
    .option('--context <name>', 'natscli context to connect with (NATS_CONTEXT)')
    .addOption(new Option('--nats.context <name>', 'the same, as Go nex spells it').hideHelp())
    .option('-s, --nats.servers <urls>', 'NATS servers, separated by commas (NATS_URL)')
    .option('--nats.creds-file <file>', 'credentials file (NATS_CREDS)')
    .option('--namespace <name>', 'namespace to act in (NEX_NAMESPACE)', process.env['NEX_NAMESPACE'] ?? 'system')
    .option('--timeout <seconds>', 'how long to wait for the other side', positive('seconds'))
    .option('--json', 'print JSON')
    .option('--debug', 'print stack traces and debug lines')
    .showSuggestionAfterError();

  const node = new Command('node').description('Nodes: run one, look at them');
  for (const command of [nodeUp(), nodeList(), nodeInfo(), nodeLameduck()]) node.addCommand(command);
  const workload = new Command('workload').alias('workloads').description('Workloads: start, stop, list');
  for (const command of [workloadStart(), workloadStop(), workloadList()]) workload.addCommand(command);
  const cache = new Command('cache').description('The binary cache in NATS: push, pull, pin, look, clean up');
  for (const command of [cachePush(), cachePull(), cacheInfo(), cacheLs()]) cache.addCommand(command);
  for (const command of [cachePin(), cacheUnpin(), cachePins()]) cache.addCommand(command);
  for (const command of [cacheGc(), cacheRm(), cacheVerify(), cacheKeygen()]) cache.addCommand(command);
  cache.addCommand(cacheServe());
  for (const command of [devrun(), logs(), node, workload, cache, dev()]) program.addCommand(command);

  const quiet = { writeErr: (text: string) => void (wantsJson(process.argv) || process.stderr.write(text)) };
  const prepare = (command: Command): void => {
    command.exitOverride().configureOutput(quiet).configureHelp({ showGlobalOptions: true });
    command.commands.forEach(prepare);
  };
  prepare(program);
  return program;
}

/** Whether the command ended because Ctrl-C or SIGTERM aborted what it was waiting for. */
function isInterruption(error: unknown): boolean {
  return (
    (error instanceof Error && error.name === 'AbortError') ||
    (error instanceof CliError && error.code === 'CLI_INTERRUPTED')
  );
}

function wantsJson(argv: readonly string[]): boolean {
  return argv.includes('--json');
}
