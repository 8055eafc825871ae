import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';

const FOLDER = import.meta.dirname;

/** The echo service in one file, which needs nothing but Node. */
export const BUNDLE = join(FOLDER, 'dist', 'echo.cjs');

/** Makes {@link BUNDLE} out of the sources and packages. Returns the absolute paths of all files that went into it. */
export async function bundleEcho(): Promise<string[]> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: FOLDER,
    entryPoints: ['src/echo.ts'],
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'cjs',
    metafile: true,
    write: false,
    outfile: BUNDLE,
    logLevel: 'silent',
  });
  // Two builds at once must not see each other's half written file.
  const temporary = `${BUNDLE}.${process.pid}.tmp`;
  await mkdir(join(FOLDER, 'dist'), { recursive: true });
  await writeFile(temporary, outputFiles[0]?.contents ?? '');
  await rename(temporary, BUNDLE);
  return Object.keys(metafile.inputs).map((input) => join(FOLDER, input));
}

if (import.meta.main) {
  const inputs = await bundleEcho();
  process.stdout.write(`${BUNDLE} made of ${inputs.length} files\n`);
}
