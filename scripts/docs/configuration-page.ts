// What a configuration file may hold: the global options, those of "nex node up", and the keys of Nex 0.1.5.
import { earlyKeys } from '../../packages/cli/src/early-config.ts';
import { buildProgram } from '../../packages/cli/src/program.ts';
import { defaultOf, leaves, meaningOf } from './commands-page.ts';
import { code, page, prose, table } from './markdown.ts';
import type { Command, Option } from './parser.ts';

/** Options that only a command line can have. */
const NOT_IN_FILES = ['config', 'version', 'check'];

/** `docs/reference/node-configuration.md`. */
export async function configurationPage(): Promise<string> {
  const program = await buildProgram();
  const [, nodeUp] = leaves(program, 'nex').find(([path]) => path === 'nex node up') ?? [];
  if (nodeUp === undefined) throw new Error('Cannot document the configuration: there is no command "nex node up"');
  return page(
    'Node configuration',
    'The keys of configuration files. Guide: [operating nodes](../guides/operating-nodes.md).',
    'Files are JSON objects, read in this order, later ones are stronger: `/etc/nex/config.json`, `$XDG_CONFIG_HOME/nex/config.json` (`~/.config/nex/config.json`), `./config.json` where it has a key of nex, the file of `--config`. An option on the command line is stronger than a file, a file than the environment, that than the default. `nex node up --check` prints what all of it amounts to, and where each value comes from. Keys that nobody knows are passed over; a value of the wrong kind is an error (`CLI_CONFIG_INVALID`).',
    'A key is the name of its option with `_` for `-`; one with a dot may be nested: `{"nats":{"servers":"nats://127.0.0.1:4222"}}`. Lists are JSON lists of texts or one text with commas (folders: with colons, as in `PATH`), maps JSON objects or `k=v;k2=v2`.',
    '## Keys for every command',
    keyTable(program),
    '## Keys for nex node up',
    keyTable(nodeUp),
    '## Nexlets of their own',
    '`agents` is a list of nexlets that the node starts as processes, each `{"uri":"file:///opt/nexlet","argv":["run"],"env":{"A":"1"}}`: `uri` names the program, `argv` and `env` may be absent.',
    '## Keys of Nex 0.1.5',
    'A file of such a node is taken as it is. Keys without an effect are named in one warning at the start.',
    table(
      ['Key', 'Value', 'Stands for'],
      earlyKeys().map(({ key, means, option }) => [
        code(key),
        means,
        option === undefined ? 'nothing here' : code(option),
      ]),
    ),
  );
}

function keyTable(command: Command): string {
  const rows = command.options
    .filter((option) => !NOT_IN_FILES.includes(option.name()) && !/^(accepted|refused):/.test(option.description))
    .filter((option) => !option.negate || !command.options.some((other) => isOpposite(other, option)))
    .map((option) => [code(keyOf(option)), prose(valueOf(option)), prose(meaningOf(option)), defaultOf(option)]);
  return table(['Key', 'Value', 'Meaning', 'Default'], rows);
}

function isOpposite(other: Option, option: Option): boolean {
  return !other.negate && other.name() === option.name().replace(/^no-/, '');
}

function keyOf(option: Option): string {
  return option.name().replace(/^no-/, '').replaceAll('-', '_');
}

function valueOf(option: Option): string {
  if (option.isBoolean() || option.negate) return option.negate ? 'true or false; false does that' : 'true or false';
  return option.argChoices?.join(', ') ?? /<(.*)>/.exec(option.flags)?.[1] ?? '';
}
