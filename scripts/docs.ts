// Writes docs/reference, or with --check only tells whether it is what would be written.
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const REFERENCE = join(import.meta.dirname, '../docs/reference');

const { values } = parseArgs({ options: { check: { type: 'boolean' }, folder: { type: 'string' } } });
const folder = values.folder ?? REFERENCE;

// Defaults name folders of the user: those of nobody in particular are the same on every machine.
process.env['HOME'] = '~';
delete process.env['XDG_STATE_HOME'];
const { referencePages } = await import('./docs/reference.ts');
const pages = await referencePages();
await mkdir(folder, { recursive: true });
const stale = (await readdir(folder)).filter((file) => !pages.has(file));
const changed = [];
for (const [file, text] of pages) {
  const path = join(folder, file);
  if ((await readFile(path, 'utf8').catch(() => undefined)) === text) continue;
  changed.push(file);
  if (values.check !== true) await writeFile(path, text);
}
if (values.check !== true) await Promise.all(stale.map((file) => rm(join(folder, file))));
const different = [...changed, ...stale];
if (values.check === true && different.length > 0) {
  console.error(`docs/reference is not what the code says: ${different.join(', ')}. Write it anew: npm run docs`);
  process.exitCode = 1;
} else if (different.length > 0) {
  console.log(`Written: ${different.join(', ')}`);
}
