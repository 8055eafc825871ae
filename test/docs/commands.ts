// What the docs say about the nex command, checked against its definition.
import type { Command } from 'commander';
import { buildProgram } from '../../packages/cli/src/program.ts';

/** Says what is wrong with a command line that begins with `nex`; undefined when all its words are known. */
export async function complainAbout(line: string): Promise<string | undefined> {
  const program = await (known ??= buildProgram());
  // Quotes hold values. What a shell does after the command is not the command's.
  const words =
    line
      .replaceAll(/'[^']*'|"[^"]*"/g, 'value')
      .split(/\s*(?:[|;&]|\s#|\s\d?>)/)[0]
      ?.split(/\s+/) ?? [];
  let command: Command = program;
  const [, ...rest] = words;
  for (let i = 0; i < rest.length; i++) {
    const word = rest[i] ?? '';
    if (word === '--') return undefined;
    if (word.startsWith('-')) {
      const name = word.replace(/=.*$/, '');
      const option = optionsOf(command).find(({ short, long }) => [short, long].includes(name));
      if (option === undefined) return `"${commandName(command)}" has no option ${name}`;
      if ((option.required || option.optional) && !word.includes('=')) i++;
      continue;
    }
    const next = command.commands.find((one) => [one.name(), ...one.aliases()].includes(word));
    if (next !== undefined) command = next;
    else if (command.commands.length > 0 && command.registeredArguments.length === 0)
      return `"${commandName(command)}" has no command ${word}`;
  }
  return undefined;
}

let known: Promise<Command> | undefined;

function optionsOf(
  command: Command,
): readonly { short?: string; long?: string | null; required: boolean; optional: boolean }[] {
  const own = [...command.options, { short: '-h', long: '--help', required: false, optional: false }];
  return command.parent === null ? own : [...own, ...optionsOf(command.parent)];
}

function commandName(command: Command): string {
  return command.parent === null ? command.name() : `${commandName(command.parent)} ${command.name()}`;
}
