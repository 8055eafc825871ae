import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** The checkout. */
export const ROOT = join(import.meta.dirname, '../..');
const TUTORIALS = 'docs/tutorials';

/** Every page whose commands are run, as paths from the root. */
export async function pages(): Promise<string[]> {
  const names = await readdir(join(ROOT, TUTORIALS));
  return [
    'README.md',
    ...names
      .filter((name) => name.endsWith('.md'))
      .toSorted()
      .map((name) => `${TUTORIALS}/${name}`),
  ];
}
