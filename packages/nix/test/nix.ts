import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { encodeNixBase32, parsePublicKey, type PublicKey, type StorePath, storePathFromBaseName } from '@nex-nix/nix';
import { tempDir } from '@nex-nix/test-kit';

const run = promisify(execFile);

/** Real Nix, offline, as root, without its own sandbox. */
export const NIX_ENV: NodeJS.ProcessEnv = {
  ...process.env,
  NIX_CONFIG: 'substituters =\nsandbox = false\nbuild-users-group =\nexperimental-features = nix-command flakes',
};

/** stdout of a Nix command, as bytes. */
export async function nix(command: string, ...args: string[]): Promise<Buffer> {
  const { stdout } = await run(command, args, { env: NIX_ENV, encoding: 'buffer', maxBuffer: 256 * 1024 * 1024 });
  return stdout;
}

/** Runs a Nix command with `input` on stdin. */
export async function nixWithInput(input: Uint8Array, command: string, ...args: string[]): Promise<void> {
  const running = run(command, args, { env: NIX_ENV });
  running.child.stdin?.end(input);
  await running;
}

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

export async function nixFixture({ sign }: { sign: boolean }): Promise<NixFixture> {
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
  const records = [await registration(root, lib, [lib]), await registration(root, app, [lib])];
  await nixWithInput(Buffer.from(records.join('')), 'nix-store', '--store', store, '--load-db');

  await writeFile(keyFile, await nix('nix', 'key', 'generate-secret', '--key-name', 'test-1'));
  const converting = run('nix', ['key', 'convert-secret-to-public'], { env: NIX_ENV });
  converting.child.stdin?.end(await nix('cat', keyFile));
  const publicKey = parsePublicKey((await converting).stdout);
  if (sign) await nix('nix', '--store', store, 'store', 'sign', '-k', keyFile, '-r', app);

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
      await nix('nix', '--store', store, 'copy', '--to', `file://${cache}?${settings}`, app);
      return cache;
    },
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  };
}

/** A path with a hash that no content has. */
export function storePath(name: string): StorePath {
  return storePathFromBaseName(`${encodeNixBase32(randomBytes(20))}-${name}`);
}

async function writeContent(root: string, path: StorePath, files: Record<string, Buffer>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    const file = join(root, path, name);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, content);
  }
}

/** What `nix-store --load-db` reads: path, NAR hash in base 16, NAR size, deriver, references. */
async function registration(root: string, path: StorePath, references: StorePath[]): Promise<string> {
  const nar = await nix('nix-store', '--dump', `${root}${path}`);
  const hash = createHash('sha256').update(nar).digest('hex');
  return [path, hash, nar.length, storePath('x.drv'), references.length, ...references, ''].join('\n');
}
