import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';

const FOLDER = import.meta.dirname;

/** The agent in one file, which needs nothing but Node. */
export const BUNDLE = join(FOLDER, 'dist', 'agent.cjs');

/** Makes {@link BUNDLE}, or another file, out of the sources. */
export async function bundleAgent(file: string = BUNDLE): Promise<void> {
  const { version } = JSON.parse(await readFile(join(FOLDER, 'package.json'), 'utf8')) as { version: string };
  const { outputFiles } = await build({
    absWorkingDir: FOLDER,
    entryPoints: ['src/agent/main.ts'],
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'cjs',
    // Packages of this repository as sources.
    conditions: ['nexsrc'],
    define: { 'process.env.NEX_GUEST_AGENT_VERSION': JSON.stringify(version) },
    write: false,
    outfile: file,
    logLevel: 'silent',
  });
  // Two builds at once must not see each other's half written file.
  const temporary = `${file}.${process.pid}.tmp`;
  await mkdir(join(file, '..'), { recursive: true });
  await writeFile(temporary, outputFiles[0]?.contents ?? '');
  await rename(temporary, file);
}

if (import.meta.main) {
  await bundleAgent();
  process.stdout.write(`${BUNDLE}\n`);
}
