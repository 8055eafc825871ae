import { access, chmod, constants, mkdtemp, readdir, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface TempDir extends AsyncDisposable {
  readonly path: string;
}

/** Where Linux has a file system in memory. */
const MEMORY = '/dev/shm';
/** Less free memory than this is left alone, in bytes. */
const MEMORY_WANTED = 4 * 2 ** 30;

/**
 * A fresh folder that is removed when it goes out of scope, read-only store paths inside it included. With `inMemory` it is
 * in memory where there is enough: for what has to be quick while other tests keep the disk busy.
 */
export async function tempDir(prefix = 'nex-test-', { inMemory = false } = {}): Promise<TempDir> {
  const path = await mkdtemp(join(inMemory && (await hasMemory()) ? MEMORY : tmpdir(), prefix));
  return {
    path,
    async [Symbol.asyncDispose]() {
      await makeWritable(path);
      await rm(path, { recursive: true, force: true });
    },
  };
}

async function hasMemory(): Promise<boolean> {
  try {
    const { bavail, bsize } = await statfs(MEMORY);
    await access(MEMORY, constants.W_OK);
    return bavail * bsize > MEMORY_WANTED;
  } catch {
    return false;
  }
}

/** Names are bytes: a store path may hold some that are no UTF-8. */
async function makeWritable(folder: string | Buffer): Promise<void> {
  await chmod(folder, 0o755);
  for (const entry of await readdir(folder, { withFileTypes: true, encoding: 'buffer' })) {
    if (entry.isDirectory()) await makeWritable(Buffer.concat([Buffer.from(folder), SEPARATOR, entry.name]));
  }
}

const SEPARATOR = Buffer.from('/');
