import { accessSync, constants } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { describe } from 'vitest';

/** Where tools lie that only tests need, programs in `bin`: `NEX_TEST_TOOLS`, or a folder of the user's cache. */
export const TEST_TOOLS = process.env['NEX_TEST_TOOLS'] ?? join(homedir(), '.cache/nex-nix-tools');

/** Absolute path of an executable on PATH, in the sbin folders, which PATH often lacks, or among the test tools; or undefined. */
export function findTool(name: string): string | undefined {
  const path = (process.env['PATH'] ?? '').split(delimiter);
  const folders = path.concat('/usr/local/sbin', '/usr/sbin', '/sbin', join(TEST_TOOLS, 'bin'));
  for (const folder of folders) {
    if (folder === '') continue;
    const candidate = join(folder, name);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      continue;
    }
  }
  return undefined;
}

/** `describe`, but skipped with a title that names what is missing when a tool is not on this machine. */
export function describeWith(tools: readonly string[], title: string, body: () => void): void {
  const missing = tools.filter((tool) => findTool(tool) === undefined);
  if (missing.length === 0) describe(title, body);
  else describe.skip(`${title} (skipped: ${missing.join(', ')} not installed)`, body);
}
