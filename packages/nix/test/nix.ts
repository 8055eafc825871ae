import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { encodeNixBase32, parsePublicKey, type PublicKey, type StorePath, storePathFromBaseName } from '@nex-nix/nix';
import { type RealNix, tempDir } from '@nex-nix/test-kit';

/** A chroot store of real Nix with an input-addressed closure: `app` refers to `lib`, `lib` to itself. */
export interface NixFixture extends AsyncDisposable {
  readonly dir: string;
  readonly root: string;
  /** The value for Nix's `--store`. */
  readonly store: string;
  readonly lib: StorePath;
  readonly app: StorePath;
  readonly keyFile: string;
  readonly publicKey: PublicKey;
  /** Writes the closure of `app` into a binary cache below `dir` with `nix copy`, and says where. */
  copyTo(name: string, settings: string): Promise<string>;
}

export async function nixFixture(nix: RealNix, { sign }: { sign: boolean }): Promise<NixFixture> {
  const dir = await tempDir('nex-nix-');
  const root = join(dir.path, 'root');
  const store = `local?root=${root}`;
  const keyFile = join(dir.path, 'key');
  const lib = storePath('lib-1.0');
  const app = storePath('app-2.1');
  await writeContent(root, lib, { 'lib/data': Buffer.alloc(700_000, `${lib} `), 'share/empty': Buffer.alloc(0) });
  await writeContent(root, app, {
    'bin/app': Buffer.from(`#!/bin/sh\n# ${lib}\n`),
    'etc/random': randomBytes(100_000),
  });
  await chmod(`${root}${app}/bin/app`, 0o755);
  const records = [await registration(nix, root, lib, [lib]), await registration(nix, root, app, [lib])];
  await nix.runWithInput(Buffer.from(records.join('')), 'nix-store', '--store', store, '--load-db');

  await writeFile(keyFile, await nix.run('nix', 'key', 'generate-secret', '--key-name', 'test-1'));
  const converted = await nix.runWithInput(await readFile(keyFile), 'nix', 'key', 'convert-secret-to-public');
  const publicKey = parsePublicKey(converted.toString());
  if (sign) await nix.run('nix', '--store', store, 'store', 'sign', '-k', keyFile, '-r', app);

  return {
    dir: dir.path,
    root,
    store,
    lib,
    app,
    keyFile,
    publicKey,
    async copyTo(name, settings) {
      const cache = join(dir.path, name);
      await nix.run('nix', '--store', store, 'copy', '--to', `file://${cache}?${settings}`, app);
      return cache;
    },
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  };
}

/** A path with a hash that no content has. */
export function storePath(name: string): StorePath {
  return storePathFromBaseName(`${encodeNixBase32(randomBytes(20))}-${name}`);
}

/** Writes files below `path` in the chroot store `root`. */
export async function writeContent(root: string, path: StorePath, files: Record<string, Buffer>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    const file = join(root, path, name);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, content);
  }
}

/** What `nix-store --load-db` reads: path, NAR hash in base 16, NAR size, deriver, references. */
export async function registration(
  nix: RealNix,
  root: string,
  path: StorePath,
  references: StorePath[],
): Promise<string> {
  const nar = await nix.run('nix-store', '--dump', `${root}${path}`);
  const hash = createHash('sha256').update(nar).digest('hex');
  return [path, hash, nar.length, storePath('x.drv'), references.length, ...references, ''].join('\n');
}
