import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { GuestError } from '../guest-error.ts';

/** The package's folder, from `src/image` and from `dist/image` alike. */
const PACKAGE = join(import.meta.dirname, '../..');
const BUNDLE = join(PACKAGE, 'dist/agent.cjs');
const BUNDLER = join(PACKAGE, 'bundle-agent.ts');
const SOURCES = join(PACKAGE, 'src');

/** The agent as one file for Node; bundled afresh where the package's sources are and something in them is newer. */
export async function agentBundle(): Promise<{ code: Buffer; version: string }> {
  await bundleIfStale();
  const code = await readFile(BUNDLE).catch((error: unknown) => {
    throw new GuestError('GUEST_BUILD_FAILED', `Cannot build a guest: its agent "${BUNDLE}" is not there`, {
      hint: 'npm run build --workspace @nex-nix/guest',
      cause: error,
    });
  });
  const { version } = JSON.parse(await readFile(join(PACKAGE, 'package.json'), 'utf8')) as { version: string };
  return { code, version };
}

async function bundleIfStale(): Promise<void> {
  if ((await changed(BUNDLER)) === undefined) return;
  const bundled = await changed(BUNDLE);
  const entries = await readdir(SOURCES, { recursive: true, withFileTypes: true });
  const sources = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const times = await Promise.all([BUNDLER, ...sources].map(changed));
  if (bundled !== undefined && times.every((time) => (time ?? 0) <= bundled)) return;
  const { bundleAgent } = (await import(pathToFileURL(BUNDLER).href)) as { bundleAgent: () => Promise<unknown> };
  await bundleAgent();
}

/** When a file was changed last, in milliseconds; undefined when it is not there. */
async function changed(file: string): Promise<number | undefined> {
  const stats = await stat(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  return stats?.mtimeMs;
}
