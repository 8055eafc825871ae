import { exitCode } from '@nex-nix/errors';
import { Command, CommanderError, type Option } from 'commander';
import { CliError } from './cli-error.ts';
import { addGlobalOptions, type GlobalOptions } from './global-options.ts';
import { printError } from './output.ts';
import { rootOf, settleOptions } from './settle-options.ts';

/** Exit code of a command that was interrupted, as shells have it: 128 + SIGINT. */
const INTERRUPTED = 130;

interface Entry {
  /** The name and its aliases. */
  readonly names: readonly [string, ...string[]];
  readonly load: () => Promise<Command>;
}

/** The commands of the first level in the order of the help text. Those of a group are put together in the group's own file. */
const COMMANDS: readonly Entry[] = [
  { names: ['devrun', 'yeet'], load: async () => (await import('./commands/devrun.ts')).devrun() },
  { names: ['run'], load: async () => (await import('./commands/run.ts')).run() },
  { names: ['stop'], load: async () => (await import('./commands/workload-stop.ts')).workloadStop() },
  { names: ['logs'], load: async () => (await import('./commands/logs.ts')).logs() },
  { names: ['events'], load: async () => (await import('./commands/events.ts')).events() },
  { names: ['node'], load: async () => (await import('./commands/node.ts')).node() },
  { names: ['workload', 'workloads'], load: async () => (await import('./commands/workload.ts')).workload() },
  { names: ['cache'], load: async () => (await import('./commands/cache.ts')).cache() },
  { names: ['guest'], load: async () => (await import('./commands/guest.ts')).guest() },
  { names: ['clean'], load: async () => (await import('./commands/clean.ts')).clean() },
  { names: ['dev'], load: async () => (await import('./commands/dev.ts')).dev() },
];

/** Runs the command line; resolves with the exit code. Everything that goes wrong is printed here and nowhere else. */
export async function run(argv: readonly string[]): Promise<number> {
  const program = await buildProgram(argv);
  try {
    await program.parseAsync(argv, { from: 'user' });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    const { json = argv.includes('--json'), debug = false } = program.opts<GlobalOptions>();
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      // Without a command its help is on stderr already.
      if (error.code === 'commander.help' && !json) return 2;
      printError(usageError(error), { json });
      return 2;
    }
    if (isInterruption(error)) {
      const shown = error instanceof CliError ? error : new CliError('CLI_INTERRUPTED', 'Interrupted');
      if (json) printError(shown, { json });
      else process.stderr.write(`${shown.message}\n`);
      return INTERRUPTED;
    }
    printError(error, { json, debug });
    return exitCode(error);
  }
}

/** The command with what `argv` names; by default, with everything. */
export async function buildProgram(argv: readonly string[] = []): Promise<Command> {
  const program = addGlobalOptions(new Command('nex').description('Runs Nix store paths on NATS'));
  program.hook('preAction', (_program, command) => settleOptions(command));
  for (const command of await commandsFor(argv)) program.addCommand(command);
  const prepare = (command: Command): void => {
    command
      .exitOverride()
      // run() prints what is wrong, in the form of all errors.
      .configureOutput({ outputError: () => undefined })
      .configureHelp({ showGlobalOptions: true, visibleGlobalOptions: everydayOptions })
      .showSuggestionAfterError();
    command.commands.forEach(prepare);
  };
  prepare(program);
  return program;
}

/** Of the global options those that the help of every command repeats; `nex --help` has all. */
function everydayOptions(command: Command): Option[] {
  const shown = ['context', 'nats.servers', 'namespace', 'timeout', 'json', 'debug'];
  const all = command.parent === null ? [] : [...rootOf(command).options];
  return all.filter((option) => shown.includes(option.name()));
}

/** Loads what the command line names; of the rest, unless help shows it, the name is enough: start-up is felt. */
async function commandsFor(argv: readonly string[]): Promise<Command[]> {
  const isNamed = ({ names }: Entry): boolean => names.some((name) => argv.includes(name));
  const needsAll = !COMMANDS.some(isNamed) || argv.some((word) => ['-h', '--help', 'help'].includes(word));
  return Promise.all(
    COMMANDS.map(async (entry) => {
      const [name, ...aliases] = entry.names;
      return needsAll || isNamed(entry) ? entry.load() : new Command(name).aliases(aliases);
    }),
  );
}

/** A complaint of the parser as an error like any other: `error: unknown option '--jsn'\n(Did you mean --json?)`. */
function usageError({ code, message }: CommanderError): CliError {
  if (code === 'commander.help') {
    return new CliError('CLI_USAGE', 'Cannot run nex without a command', { hint: 'nex --help' });
  }
  const [first = '', suggestion] = message.replace(/^error: /, '').split('\n');
  const hint = suggestion?.replace(/^\((.*)\)$/, '$1') ?? 'Options and arguments: add --help';
  return new CliError('CLI_USAGE', `Cannot read the command line: ${first}`, { hint });
}

/** Whether the command ended because Ctrl-C or SIGTERM aborted what it was waiting for. */
function isInterruption(error: unknown): boolean {
  return (
    (error instanceof Error && error.name === 'AbortError') ||
    (error instanceof CliError && error.code === 'CLI_INTERRUPTED')
  );
}
