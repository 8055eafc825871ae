import { execFile, spawn } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { encodeNixBase32, type StorePath, storePathFromBaseName } from '@nex-nix/nix';

const run = promisify(execFile);
const MIB = 1024 * 1024;

/** Writes a tree of 100 MiB: a large file, some of 4 MiB, and a thousand small ones. It compresses about as programs do. */
export async function writeTree(folder: string): Promise<void> {
  const sizes = [40 * MIB, ...Array<number>(8).fill(4 * MIB), ...Array<number>(1000).fill(0.028 * MIB)];
  await writeFiles(folder, sizes, 0);
}

/** @param sizes of the files, in bytes. */
async function writeFiles(folder: string, sizes: readonly number[], seed: number): Promise<void> {
  for (const [i, size] of sizes.entries()) {
    const file = join(folder, `part-${i % 20}`, `file-${i}`);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, content(Math.round(size), seed + i));
  }
}

/** Files of the eleven libraries of a {@link NixClosure}, in MiB: few large ones, many small ones. */
export const LIBRARIES: readonly (readonly number[])[] = [
  [40],
  [4, 3, 1],
  [4, 3, 1],
  [4, 3, 1],
  [4, 3, 1],
  Array<number>(50).fill(0.1),
  Array<number>(50).fill(0.1),
  Array<number>(50).fill(0.1),
  Array<number>(200).fill(0.02),
  Array<number>(200).fill(0.02),
  Array<number>(200).fill(0.025),
];

/** A chroot store of real Nix with a closure of 100 MiB in 12 paths, the largest of 40 MiB: an application, libraries, data. */
export interface NixClosure {
  /** The folder that stands for `/`. */
  readonly root: string;
  /** The value for Nix's `--store`. */
  readonly store: string;
  readonly path: StorePath;
  readonly env: NodeJS.ProcessEnv;
}

/** Makes a {@link NixClosure} below `folder`. */
export async function makeClosure(folder: string): Promise<NixClosure> {
  const root = join(folder, 'root');
  const store = `local?root=${root}`;
  const env = {
    ...process.env,
    XDG_CACHE_HOME: join(folder, 'cache'),
    NIX_CONFIG: 'substituters =\nsandbox = false\nbuild-users-group =\nexperimental-features = nix-command',
  };
  const records: string[] = [];
  const add = async (name: string, references: readonly StorePath[], write: (folder: string) => Promise<void>) => {
    const hash = encodeNixBase32(createHash('sha256').update(name).digest().subarray(0, 20));
    const path = storePathFromBaseName(`${hash}-${name}`);
    await write(join(root, path));
    const { stdout } = await run('nix-hash', ['--type', 'sha256', join(root, path)], { env });
    const { length } = (
      await run('nix-store', ['--dump', join(root, path)], {
        env,
        encoding: 'buffer',
        maxBuffer: 256 * MIB,
      })
    ).stdout;
    records.push([path, stdout.trim(), length, '', references.length, ...references, ''].join('\n'));
    return path;
  };
  const libraries: StorePath[] = [];
  for (const [index, files] of LIBRARIES.entries()) {
    const sizes = files.map((size) => size * MIB);
    // Each refers to the one before and the one that all have in common.
    const references = [...new Set([...libraries.slice(0, 1), ...libraries.slice(-1)])].sort();
    const write = async (folder: string) => {
      await writeFiles(folder, sizes, 1000 * index);
      await writeFile(join(folder, 'references'), references.join('\n'));
    };
    libraries.push(await add(`bench-library-${index}-1.0`, references, write));
  }
  const all = [...libraries].sort();
  const path = await add('bench-app-1', all, async (app) => {
    await mkdir(app, { recursive: true });
    await writeFile(join(app, 'app'), all.join('\n'));
  });
  const loading = spawn('nix-store', ['--store', store, '--load-db'], { env, stdio: ['pipe', 'ignore', 'inherit'] });
  loading.stdin.end(records.join(''));
  const [code] = (await once(loading, 'close')) as [number | null];
  if (code !== 0) throw new Error(`nix-store --load-db ended with exit code ${code}`);
  return { root, store, path, env };
}

/** Milliseconds that `work` takes. */
export async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
}

/** Words drawn from a vocabulary of noise; the same for the same seed. */
export function content(size: number, seed: number): Buffer {
  const random = createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16, seed >> 8));
  const noise = random.update(Buffer.alloc(size + 65_536));
  const bytes = Buffer.allocUnsafe(size);
  for (let at = 0, word = 0; at < size; word += 2) {
    const length = 8 + ((noise[word] ?? 0) & 31);
    // Every fourth word is new, the others come from the first 16 KiB.
    const isNew = ((noise[word] ?? 0) & 0x30) === 0;
    const from = isNew ? 65_536 + word : noise.readUInt16LE(word) >> 2;
    at += noise.copy(bytes, at, from, from + Math.min(length, size - at));
  }
  return bytes;
}
