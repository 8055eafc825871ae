import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findTool, startProcess } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { complainAbout } from './commands.ts';
import { firstDifference, hasShown, mask } from './compare.ts';
import { notRun } from './not-run.ts';
import { type Block, commandsOf, CONSOLE, INTERRUPT, parsePage } from './page.ts';
import { pages, ROOT } from './pages.ts';
import { tapeCommands } from './tapes.ts';

const read = (page: string) => readFile(join(ROOT, page), 'utf8');
const ALL = await pages();

describe.each(ALL)('%s', async (page) => {
  const markdown = await read(page);
  const blocks = parsePage(markdown);
  const consoles = blocks.filter(({ language }) => language === CONSOLE);

  it('has command lines only in blocks that are run or say why not', () => {
    const looksLikeCommands = ({ language, content }: Block) =>
      ['', 'sh', 'bash', 'shell', 'terminal', 'shell-session'].includes(language) ||
      content.some((line) => /^[$❯] /.test(line));
    expect(blocks.filter((block) => block.language !== CONSOLE && looksLikeCommands(block))).toEqual([]);
    for (const { notes, line } of consoles.filter((block) => block.notes.has('not run')))
      expect(notes.get('not run'), `${page}:${line}`).toMatch(/^needs \w+/);
  });

  it.skipIf(findTool('nix-instantiate') === undefined)('has Nix that parses', async () => {
    for (const { content } of blocks.filter(({ language }) => language === 'nix')) {
      await using parser = startProcess('nix-instantiate', ['--parse', '-E', content.join('\n')]);
      expect(await parser.exited, parser.stderr()).toMatchObject({ code: 0 });
    }
  });

  it('is run by a test file', async () => {
    const isRun = ({ notes }: Block) => !notes.has('not run') && !notes.has('run by');
    const files = (await readdir(import.meta.dirname)).filter((name) => name.endsWith('.test.ts'));
    const tests = await Promise.all(files.map((name) => readFile(join(import.meta.dirname, name), 'utf8')));
    const isTested = tests.some((text) => text.includes(`testPage('${page}'`));
    expect(isTested).toBe(consoles.some(isRun));
  });

  it('names tests that exist, and that run what it says', async () => {
    for (const block of consoles) {
      const by = block.notes.get('run by');
      if (by === undefined) continue;
      expect(existsSync(join(ROOT, by)), by).toBe(true);
      const test = await read(by);
      for (const word of commandsOf(block).flatMap(({ text }) => text.match(/[\w-]+/g) ?? []))
        expect(test).toContain(word);
    }
  });

  it('names commands and options of nex that there are', async () => {
    const inline = [...markdown.replaceAll(/^```[^]*?^```/gm, '').matchAll(/`(nex [^`]+)`/g)].map(
      ([, line = '']) => line,
    );
    const written = consoles.flatMap((block) => commandsOf(block).map(({ text }) => text.replaceAll('\\\n', ' ')));
    const lines = [...inline.flatMap(alternatives), ...written.filter((text) => text.startsWith('nex '))];
    for (const line of lines) expect(await complainAbout(line), line).toBeUndefined();
  });
});

describe('docs/vhs', async () => {
  const tapes = (await readdir(join(ROOT, 'docs/vhs'))).filter(
    (name) => name.endsWith('.tape') && name !== 'settings.tape',
  );

  it.each(tapes)('%s types commands that there are', async (tape) => {
    const { output, typed } = tapeCommands(await read(`docs/vhs/${tape}`));
    expect(output).toBe(`docs/assets/${tape.replace(/tape$/, 'gif')}`);
    expect(typed.length).toBeGreaterThan(0);
    for (const line of typed.filter((text) => text.startsWith('nex ')))
      expect(await complainAbout(line), line).toBeUndefined();
  });
});

describe('the list of commands that no test runs', () => {
  it('is what docs/tutorials/README.md says', async () => {
    expect(await read('docs/tutorials/README.md')).toContain(await notRun());
  });
});

describe('parsePage()', () => {
  it('takes the comments right above a block as its notes, and commands with their output', () => {
    const [block] = parsePage('<!-- exit: 3 -->\n<!-- eventually -->\n\n```console\n$ a \\\n  b\nout\n\n$ c\n```\n');
    expect(block?.notes).toEqual(
      new Map([
        ['exit', '3'],
        ['eventually', ''],
      ]),
    );
    expect(block === undefined ? [] : commandsOf(block)).toEqual([
      { line: 5, text: 'a \\\n  b', output: ['out'] },
      { line: 9, text: 'c', output: [] },
    ]);
  });

  it('refuses notes that mean nothing, blocks without an end, and output above the first command', () => {
    expect(() => parsePage('<!-- not runn: x -->\n```console\n```')).toThrow(/not runn/);
    expect(() => parsePage('```console\n$ a')).toThrow(/Line 1/);
    const [block] = parsePage('```console\na\n```');
    expect(() => block && commandsOf(block)).toThrow(/Line 2/);
  });

  it('knows Ctrl-C', () => {
    const [block] = parsePage('```console\n^C\nbye\n```');
    expect(block && commandsOf(block)).toMatchObject([{ text: INTERRUPT, output: ['bye'] }]);
  });
});

describe('firstDifference()', () => {
  it('passes over what varies, and over nothing else', () => {
    const shown = ['Workload YEUGIj1Sn7ZH7CahX2qaLK runs since 2026-11-23T08:48:41.226Z (2.0 s)'];
    const other = ['Workload rYibKC6VVW0SKjOjxlbuPj runs since 2027-01-01T00:00:00.000Z (12 ms)'];
    expect(firstDifference(shown, other)).toBeUndefined();
    expect(firstDifference(shown, [other[0]?.replace('runs', 'sleeps') ?? ''])).toBe(shown[0]);
    expect(mask('exit code 1, 3 of 3 replicas')).toBe('exit code 1, 3 of 3 replicas');
  });

  it('takes an ellipsis for any text of a line, and alone in one for any lines', () => {
    expect(firstDifference(['a … z', '…', 'end'], ['a b z', 'more', 'end'])).toBeUndefined();
    expect(firstDifference(['a … z', '…', 'end'], ['a b z', 'more'])).toBe('end');
    expect(firstDifference(['a'], ['a', 'b'])).toBe('');
    expect(firstDifference(['a', 'b'], ['a'])).toBe('b');
  });

  it('hasShown() finds lines among others', () => {
    expect(hasShown(['b', 'd'], ['a', 'b', 'c', 'd', 'e'])).toBe(true);
    expect(hasShown(['d', 'b'], ['a', 'b', 'c', 'd', 'e'])).toBe(false);
  });
});

/** `nex a \| b c` of a table stands for two commands; what is in angle brackets for a value. */
function alternatives(line: string): string[] {
  const words = line.replaceAll(/<[^>]*>|\[[^\]]*\]|…/g, '').split(/\s*\\?\|\s*/);
  const [first = '', ...others] = words;
  const stem = first.trim().split(' ').slice(0, -1).join(' ');
  return [first.trim(), ...others.filter((word) => word.trim() !== '').map((word) => `${stem} ${word.trim()}`)];
}
