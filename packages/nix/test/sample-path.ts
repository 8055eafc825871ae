import { createHash, randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { dumpNar, type LocalStore, narHashOf, type PathInfo, type PathSource, type StorePath } from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';
import { storePath } from './nix.ts';

/** A NAR, and what a source would say of it. */
export interface Sample {
  readonly info: PathInfo;
  readonly nar: Buffer;
}

export async function* bytes(...parts: Uint8Array[]): AsyncGenerator<Uint8Array, void> {
  yield* parts;
}

/** A small folder with a program, and with `files`. */
export async function sample(
  name: string,
  references: StorePath[] = [],
  files: Record<string, Uint8Array> = {},
): Promise<Sample> {
  await using dir = await tempDir();
  await mkdir(join(dir.path, 'x/bin'), { recursive: true });
  await writeFile(join(dir.path, 'x/bin/program'), randomBytes(1000), { mode: 0o755 });
  for (const [file, content] of Object.entries(files)) {
    await mkdir(dirname(join(dir.path, 'x', file)), { recursive: true });
    await writeFile(join(dir.path, 'x', file), content);
  }
  return describeNar(storePath(name), Buffer.concat(await Array.fromAsync(dumpNar(join(dir.path, 'x')))), references);
}

export function describeNar(storePath: StorePath, nar: Buffer, references: StorePath[] = []): Sample {
  const narHash = narHashOf(createHash('sha256').update(nar).digest());
  return { info: { storePath, narHash, narSize: nar.length, references: references.toSorted(), signatures: [] }, nar };
}

export async function addAll(store: LocalStore, samples: readonly Sample[]): Promise<void> {
  for (const { info, nar } of samples) await store.add(info, bytes(nar));
}

/** A source that has `samples` in memory. */
export function sourceOf(samples: readonly Sample[]): PathSource {
  const find = (path: StorePath) => samples.find(({ info }) => info.storePath === path);
  return {
    name: 'memory',
    pathInfo: async (path) => find(path)?.info,
    nar: (info) => bytes(find(info.storePath)?.nar ?? Buffer.alloc(0)),
  };
}

/** One column of the rows that `sql` gives, straight from the database of the store in `dir`. */
export function queryStore(dir: string, sql: string): unknown[] {
  using db = new DatabaseSync(join(dir, 'db.sqlite'), { timeout: 5000 });
  return db
    .prepare(sql)
    .all()
    .map((row) => Object.values(row)[0]);
}
