import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { commandsOf, CONSOLE, parsePage } from './page.ts';
import { pages, ROOT } from './pages.ts';

/** The page that has it. */
const LIST = 'docs/tutorials/README.md';

/** The commands of all pages that are not run when the page is, as Markdown: where, what, why or by whom. */
export async function notRun(): Promise<string> {
  const rows: string[] = [];
  for (const page of await pages()) {
    for (const block of parsePage(await readFile(join(ROOT, page), 'utf8'))) {
      const why = block.notes.get('not run') ?? block.notes.get('run by')?.replace(/^/, 'run by ');
      if (block.language !== CONSOLE || why === undefined) continue;
      rows.push(...commandsOf(block).map(({ text }) => `- ${page}: \`${text}\` (${why})`));
    }
  }
  return rows.join('\n');
}

/** Writes the list into the page that has it. */
export async function writeNotRun(): Promise<void> {
  const list = await notRun();
  const file = join(ROOT, LIST);
  const text = await readFile(file, 'utf8');
  await writeFile(
    file,
    text.replace(/(?<=<!-- begin: not run -->\n)[^]*(?=<!-- end: not run -->)/, () => `\n${list}\n\n`),
  );
}
