import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface TempDir extends AsyncDisposable {
  readonly path: string;
}

/** A fresh folder that is removed when it goes out of scope, read-only store paths inside it included. */
export async function tempDir(prefix = 'nex-test-'): Promise<TempDir> {
  const path = await mkdtemp(join(tmpdir(), prefix));
  return {
    path,
    async [Symbol.asyncDispose]() {
      await makeWritable(path);
      await rm(path, { recursive: true, force: true });
    },
  };
}

/** Names are bytes: a store path may hold some that are no UTF-8. */
async function makeWritable(folder: string | Buffer): Promise<void> {
  await chmod(folder, 0o755);
  for (const entry of await readdir(folder, { withFileTypes: true, encoding: 'buffer' })) {
    if (entry.isDirectory()) await makeWritable(Buffer.concat([Buffer.from(folder), SEPARATOR, entry.name]));
  }
}

const SEPARATOR = Buffer.from('/');
