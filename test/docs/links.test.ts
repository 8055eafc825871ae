import { existsSync, globSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { deadLinks, markdownFiles } from './markdown-links.ts';

const ROOT = join(import.meta.dirname, '../..');

it('every link between Markdown files of the repository leads to a file, and to a heading in it', () => {
  const files = markdownFiles(ROOT);
  expect(files.length).toBeGreaterThan(60);
  expect(deadLinks(files, ROOT)).toEqual([]);
});

it('every page of docs can be reached from docs/README.md', async () => {
  const index = await readFile(join(ROOT, 'docs/README.md'), 'utf8');
  const decisions = await readFile(join(ROOT, 'docs/decisions/README.md'), 'utf8');
  const pages = markdownFiles(join(ROOT, 'docs')).map((file) => file.slice(join(ROOT, 'docs').length + 1));
  const isLinked = (page: string): boolean =>
    page.startsWith('decisions/0') ? decisions.includes(`(${page.slice(10)})`) : index.includes(`(${page})`);
  expect(pages.filter((page) => page !== 'README.md' && !isLinked(page))).toEqual([]);
});

it('what SECURITY.md and the architecture name is there: tests by their sentence, files and folders', async () => {
  const squeeze = (text: string): string => text.replaceAll(/\s+/g, ' ');
  const tests = globSync('{packages,test}/**/*.test.ts', {
    cwd: ROOT,
    exclude: (path) => /node_modules|dist/.test(path),
  });
  const source = squeeze((await Promise.all(tests.map((file) => readFile(join(ROOT, file), 'utf8')))).join('\n'));
  const page = squeeze(await readFile(join(ROOT, 'SECURITY.md'), 'utf8'));
  const named = [...page.matchAll(/“([^”]{25,})”/g)].map(([, name = '']) => name);
  expect(named.length).toBeGreaterThan(40);
  expect(named.filter((name) => !source.includes(name))).toEqual([]);
  const texts = await Promise.all(
    ['SECURITY.md', 'CONTRIBUTING.md', 'docs/architecture.md'].map((file) => readFile(join(ROOT, file), 'utf8')),
  );
  const paths = [...texts.join('\n').matchAll(/`((?:packages|docs|scripts|test|nix|bench|examples)\/[\w./-]+)`/g)];
  expect(paths.length).toBeGreaterThan(30);
  expect(paths.map(([, path = '']) => path).filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
});

it('a link to a missing file, heading or picture is found with its line; code and other sites are not links', async () => {
  await using dir = await tempDir();
  await mkdir(join(dir.path, 'sub'));
  await writeFile(
    join(dir.path, 'sub/b.md'),
    '# B `code` & more\n\n## Twice\n\n## Twice\n\n```\n# not a heading\n```\n',
  );
  await writeFile(
    join(dir.path, 'a.md'),
    [
      '# A',
      '[good](sub/b.md#b-code--more) [good](#a) [good](sub) [good](sub/b.md#twice-1) [far](https://example.org/x.md)',
      '[bad](sub/c.md)',
      '| [bad](sub/b.md#not-a-heading) |',
      '<img src="picture.svg">',
      '[outside](../elsewhere.md) `[code](no.md)`',
      '```',
      '[code](no.md)',
      '```',
    ].join('\n'),
  );
  expect(deadLinks(markdownFiles(dir.path), dir.path)).toEqual([
    'a.md:3: sub/c.md',
    'a.md:4: sub/b.md#not-a-heading',
    'a.md:5: picture.svg',
    'a.md:6: ../elsewhere.md',
  ]);
});
