// Every command of nex, out of the definitions that the parser works with.
import type { EventEmitter } from 'node:events';
import { errorClass, type ErrorKind, exitCode } from '@nex-nix/errors';
import { buildProgram } from '../../packages/cli/src/program.ts';
import { environmentTable } from './environment.ts';
import { code, page, prose, table } from './markdown.ts';
import type { Command, Option } from './parser.ts';

const KINDS = {
  FAILED: 'failed',
  USAGE: 'usage',
  'NOT-FOUND': 'not-found',
  REFUSED: 'refused',
  UNREACHABLE: 'unreachable',
} as const satisfies Record<string, ErrorKind>;
class Failure extends errorClass(KINDS) {}

const EXIT_CODES: readonly (readonly [keyof typeof KINDS | number, string])[] = [
  [0, 'done'],
  ['FAILED', 'it was tried and has failed: a job with `--follow`, a start'],
  ['USAGE', 'the command line or a configuration file makes no sense'],
  ['NOT-FOUND', 'what was named does not exist'],
  ['REFUSED', 'refused: by NATS, by a node, by a rule'],
  ['UNREACHABLE', 'the other side does not answer, in the time that it was given'],
  [130, 'interrupted'],
  [141, 'nobody reads on, as in `nex logs | head`'],
];

/** `docs/reference/commands.md`. */
export async function commandsPage(): Promise<string> {
  const program = await buildProgram();
  const commands = leaves(program, 'nex');
  return page(
    'Commands',
    'Every command, with its options and their defaults. What they are for, and how they fit together: [the nex command](../guides/command-line.md).',
    'A size is a number and `B`, `KiB`, `MiB`, `GiB` or `TiB`; a duration or an age a number and `ms`, `s`, `m`, `h`, `d` or `w`. What a command does not say, it takes from configuration files, then from the environment: [node configuration](node-configuration.md).',
    table(
      ['Command', ''],
      commands.map(([path, command]) => [
        `[${code(path)}](#${path.replaceAll(' ', '-')})`,
        prose(command.description()),
      ]),
    ),
    '## Global options',
    'Every command takes them, before or after its own.',
    optionTable(program.options),
    '## Environment variables',
    environmentTable([program, ...commands.map(([, command]) => command)]),
    '## Exit codes',
    table(
      ['Code', 'Meaning'],
      EXIT_CODES.map(([kind, meaning]) => [
        String(typeof kind === 'number' ? kind : exitCode(new Failure(kind, 'x'))),
        meaning,
      ]),
    ),
    'An error is one sentence on stderr, with a hint where there is something to do; with `--json` it is `{"error":{"code","message","hint"}}` on stdout. All codes: [errors](errors.md).',
    ...commands.map(([path, command]) => commandSection(path, command)),
  );
}

/** Commands that do something: those without commands of their own, and groups that do something by themselves. */
export function leaves(command: Command, path: string): [string, Command][] {
  const own = command.commands.filter((child) => child.name() !== 'help');
  const inner = own.flatMap((child) => leaves(child, `${path} ${child.name()}`));
  return own.length === 0 || (path !== 'nex' && acts(command)) ? [[path, command], ...inner] : inner;
}

/** Whether a group has an action: commander keeps it to itself, but a group without one has no options either. */
function acts(command: Command): boolean {
  return command.options.length > 0;
}

function commandSection(path: string, command: Command): string {
  const usage = command.createHelp().commandUsage(command);
  const aliases = command.aliases().map((alias) => code([...path.split(' ').slice(0, -1), alias].join(' ')));
  const shown = command.options.filter((option) => !option.hidden);
  const hidden = command.options.filter((option) => option.hidden);
  return [
    `## ${path}`,
    `${prose(command.description())}.`,
    `    ${usage}`,
    aliases.length === 0 ? '' : `Also ${aliases.join(', ')}.`,
    table(
      ['Argument', 'Meaning'],
      command.registeredArguments.map((argument) => [code(argument.name()), prose(argument.description)]),
    ),
    optionTable(shown),
    hidden.length === 0
      ? ''
      : `Taken for the sake of scripts: ${hidden.map((option) => `${code(option.flags)} (${prose(option.description)})`).join('; ')}.`,
    helpAfter(command),
  ]
    .filter((block) => block !== '')
    .join('\n\n');
}

/** Examples and notes that the help text ends with. */
function helpAfter(command: Command): string {
  let text = '';
  const write = (part: string): void => void (text += part);
  // Commands are event emitters, which their types do not say.
  (command as unknown as EventEmitter).emit('afterHelp', { error: false, command, write });
  return text
    .trim()
    .split(/\n\n+/)
    .map((paragraph) => {
      const [, examples] = /^Examples?:\n(.*)$/s.exec(paragraph) ?? [];
      if (examples === undefined) return paragraph.split('\n').map(prose).join('\n');
      return ['```', ...examples.split('\n').map((line) => line.replace(/^ {2}/, '')), '```'].join('\n');
    })
    .join('\n\n');
}

function optionTable(options: readonly Option[]): string {
  const rows = options
    .filter((option) => !option.hidden && option.name() !== 'version')
    .map((option) => {
      const choices = option.argChoices?.map(code).join(', ');
      const meaning = prose(meaningOf(option)) + (choices === undefined ? '' : `: ${choices}`);
      return [code(option.flags), meaning, defaultOf(option)];
    });
  return table(['Option', 'Meaning', 'Default'], rows);
}

const BY_DEFAULT = /(?:; |, )?default: (.*)$/s;

/** The description without the default that it ends with: that has a column of its own. */
export function meaningOf({ description }: Option): string {
  return description.replace(BY_DEFAULT, '');
}

/** The default of an option: its own, or what its description says of it. */
export function defaultOf(option: Option): string {
  const value: unknown = option.defaultValue;
  if (option.defaultValueDescription !== undefined) return prose(option.defaultValueDescription);
  if (typeof value === 'string' || typeof value === 'number') return code(String(value));
  if (option.isBoolean() && value === true) return 'on';
  return prose(BY_DEFAULT.exec(option.description)?.[1] ?? '');
}
