import { chmod, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** Writes a private file (0600, its folders 0700) in one step: a reader sees the old content or the new one. */
export async function writePrivateFile(file: string, content: string | Uint8Array): Promise<void> {
  const folder = dirname(file);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  // nsc takes any *.nk or *.creds in a wrong place for a store to be migrated, so the temporary name must not end like that.
  const temporary = join(folder, `.${basename(file)}.${process.pid}.tmp`);
  try {
    await writeFile(temporary, content, { mode: 0o600, flush: true });
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Content of a text file, or undefined when there is none. */
export async function readIfPresent(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Names of the folders in a folder, in order; none when it is not there. */
export async function foldersIn(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
    return names.sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** Like {@link writePrivateFile}, but a file that says the same already is left alone: to wait for the disk takes time. */
export async function ensurePrivateFile(file: string, content: string): Promise<void> {
  if ((await readIfPresent(file)) === content) await chmod(file, 0o600);
  else await writePrivateFile(file, content);
}
