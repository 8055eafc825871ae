import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { buildProgram } from '../../packages/cli/src/program.ts';
import type { Command } from '../../scripts/docs/parser.ts';

const ROOT = join(import.meta.dirname, '../..');
const PAGES = globSync(['docs/guides/*.md', 'docs/*.md', 'SECURITY.md', 'CONTRIBUTING.md'], { cwd: ROOT });
const flagsOf = (command: Command): (string | undefined)[] =>
  command.options.flatMap(({ short, long }) => [short, long]);
const all = (command: Command): Command[] => [command, ...command.commands.flatMap(all)];

/** Words of a command line that `nex` does not know: commands, and options of the command that it names. */
function unknownWords(line: string, program: Command): string[] {
  const words = line.replace(/ #.*$/, '').split(/\s+/).slice(1);
  const own = words.includes('--') ? words.slice(0, words.indexOf('--')) : words;
  let command = program;
  let strange: string[] = [];
  for (const word of own) {
    const child = command.commands.find((one) => one.name() === word || one.aliases().includes(word));
    // What is no command of a group cannot be an argument either.
    if (child === undefined && command.commands.length > 0 && /^[a-z]+$/.test(word)) strange = [...strange, word];
    command = child ?? command;
  }
  const known = [...flagsOf(command), ...flagsOf(program), '--help'];
  return [...strange, ...own.filter((word) => /^--?[a-z]/.test(word) && !known.includes(word.split('=')[0]))];
}

it('a command or option that nex has not is noticed', async () => {
  const program = await buildProgram();
  const seen = (line: string): string[] => unknownWords(line, program);
  expect(seen('nex workload lst')).toEqual(['lst']);
  expect(seen('nex wrkload list')).toEqual(['wrkload', 'list']);
  expect(seen('nex node up --tag x --nexus=y')).toEqual(['--tag']);
  expect(seen('nex dev up --node -- --tags a=b')).toEqual([]);
  expect(seen('nex --context Node stop web # the same')).toEqual([]);
});

it.each(PAGES)('%s names no command and no option that nex has not', async (page) => {
  const program = await buildProgram();
  const text = readFileSync(join(ROOT, page), 'utf8');
  const lines = [...text.matchAll(/^(?:[$#] )?(nex [^\n]+)$|`(nex [a-z][^`]*)`/gm)].map(
    (match) => match[1] ?? match[2],
  );
  expect(lines.flatMap((line = '') => unknownWords(line, program).map((word) => `${word} in: ${line}`))).toEqual([]);
  const flags = new Set(all(program).flatMap(flagsOf));
  const named = [...text.matchAll(/`(--[a-z][a-z.-]+)[^`]*`/g)].map(([, flag = '']) => flag);
  expect(named.filter((flag) => !flags.has(flag))).toEqual([]);
});
