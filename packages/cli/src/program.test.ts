import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { expect, it } from 'vitest';
import { buildProgram } from './program.ts';

const DOCS = join(import.meta.dirname, '../../../docs/guides');

/** Commands that do something: those without subcommands. */
function leaves(command: Command, path: string): Map<string, Command> {
  if (command.commands.length === 0) return new Map([[path, command]]);
  return new Map(command.commands.flatMap((child) => [...leaves(child, `${path} ${child.name()}`)]));
}

/** The command that a line of the docs runs, and the options that it gives it. */
function parse(program: Command, line: string): { command: Command; options: string[] } {
  const words = line.split(' ').slice(1);
  let command = program;
  for (const word of words) {
    const child = command.commands.find((one) => one.name() === word || one.aliases().includes(word));
    if (child !== undefined) command = child;
  }
  // Alone it is nex dev up.
  if (line === 'nex dev') command = command.commands[0] ?? command;
  return { command, options: words.filter((word) => /^--?[a-z]/.test(word)) };
}

it('every command has its example in the docs', async () => {
  const pages = await Promise.all(
    ['command-line.md', 'cache.md', 'cache-http.md'].map((page) => readFile(join(DOCS, page), 'utf8')),
  );
  const text = pages.join('\n');
  for (const path of leaves(await buildProgram(), 'nex').keys()) expect(text, path).toContain(path);
});

it('every command line of docs/guides/command-line.md is one that the commands take', async () => {
  const program = await buildProgram();
  const text = await readFile(join(DOCS, 'command-line.md'), 'utf8');
  const lines = [...text.matchAll(/^\| `(nex [^`]+)`/gm)].map(([, line = '']) => line);
  expect(lines.length).toBeGreaterThan(15);
  for (const line of lines) {
    const { command, options } = parse(program, line);
    expect(command.commands, line).toEqual([]);
    const known = [...command.options, ...program.options].flatMap(({ short, long }) => [short, long]);
    for (const option of options) expect(known, line).toContain(option);
  }
});

it('every help text with arguments or options of its own ends with an example, or needs none', async () => {
  const withoutExample = ['nex help', 'nex node help', 'nex workload help', 'nex cache help'];
  for (const [path, command] of leaves(await buildProgram(), 'nex')) {
    if (withoutExample.includes(path) || command.registeredArguments.length === 0) continue;
    let help = '';
    command.configureOutput({ writeOut: (text) => void (help += text) }).outputHelp();
    expect(help, path).toMatch(/\nExamples?:\n/);
  }
});
