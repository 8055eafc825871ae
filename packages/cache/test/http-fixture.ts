import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { CacheHttpServer, type CacheHttpServerOptions } from '@nex-nix/cache';
import { encodeNixBase32, formatPublicKey, NixStore, type StorePath, storePathFromBaseName } from '@nex-nix/nix';
import { type RealNix, tempDir } from '@nex-nix/test-kit';
import { noise, startCache, type TestCache } from './fixture.ts';

const run = promisify(execFile);

export const TOKEN = 'a-token-of-no-use-elsewhere';

/** A cache in NATS and a door before it. */
export interface TestDoor extends AsyncDisposable {
  readonly test: TestCache;
  door: CacheHttpServer;
  /** For Nix's `trusted-public-keys`. */
  readonly publicKey: string;
}

export async function startDoor(options: CacheHttpServerOptions = {}): Promise<TestDoor> {
  await using stack = new AsyncDisposableStack();
  const test = stack.use(await startCache());
  const door = stack.use(await CacheHttpServer.start(test.nc, { token: TOKEN, ...options }));
  const owned = stack.move();
  return {
    test,
    door,
    publicKey: formatPublicKey(door.publicKey),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A machine with Nix: a store of its own, a memory of caches of its own, and the token. */
export interface NixMachine extends AsyncDisposable {
  readonly dir: string;
  readonly root: string;
  /** The value for Nix's `--store`. */
  readonly store: string;
  readonly source: NixStore;
  nix(...args: readonly string[]): Promise<{ stdout: string; stderr: string }>;
  run(command: string, ...args: readonly string[]): Promise<{ stdout: string; stderr: string }>;
  /** Registers a path with these files; `path` says which, for files that name it themselves. */
  add(
    name: string,
    files: Readonly<Record<string, Buffer | string>>,
    references?: StorePath[],
    path?: StorePath,
  ): Promise<StorePath>;
}

export async function nixMachine(nix: RealNix, { token = TOKEN }: { token?: string } = {}): Promise<NixMachine> {
  const dir = await tempDir('nex-http-');
  const root = join(dir.path, 'root');
  const store = `local?root=${root}`;
  const netrc = join(dir.path, 'netrc');
  await writeFile(netrc, `machine 127.0.0.1 login nex password ${token}\n`);
  const env = {
    ...nix.env,
    HOME: dir.path,
    XDG_CACHE_HOME: join(dir.path, 'cache'),
    NIX_CONFIG: `${nix.env['NIX_CONFIG']}\nnetrc-file = ${netrc}`,
  };
  const execute = async (command: string, ...args: readonly string[]) =>
    run(command, args, { env, maxBuffer: 64 << 20 });
  return {
    dir: dir.path,
    root,
    store,
    source: new NixStore({ root, env }),
    nix: (...args) => execute('nix', ...args),
    run: execute,
    async add(name, files, references = [], path = newStorePath(name)) {
      for (const [file, content] of Object.entries(files)) {
        const target = join(root, path, file);
        await mkdir(dirname(target), { recursive: true });
        await writeFile(target, content);
        if (file.startsWith('bin/')) await chmod(target, 0o755);
      }
      const nar = await nix.run('nix-store', '--dump', `${root}${path}`);
      const hash = createHash('sha256').update(nar).digest('hex');
      const record = [path, hash, nar.length, `${path}.drv`, references.length, ...references, ''].join('\n');
      await nix.runWithInput(record, 'nix-store', '--store', store, '--load-db');
      return path;
    },
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  };
}

/** A store path that nobody has. */
export function newStorePath(name: string): StorePath {
  return storePathFromBaseName(`${encodeNixBase32(randomBytes(20))}-${name}`);
}

/** Uploads a file, the body at once. */
export async function putBytes(url: string, body: Uint8Array | string): Promise<{ status: number; text: string }> {
  const headers = { authorization: `Bearer ${TOKEN}` };
  const answer = await fetch(url, { method: 'PUT', headers, body: Buffer.from(body) });
  return { status: answer.status, text: await answer.text() };
}

/** `app` refers to `lib`, and both name it; `lib` is of several chunks, so that its length is not known at first. */
export async function addPaths(machine: NixMachine): Promise<{ lib: StorePath; app: StorePath }> {
  const lib = await machine.add('lib-1.0', {
    'lib/big': noise(6 << 20),
    'lib/text': Buffer.alloc(900_000, 'library '),
  });
  const app = await machine.add('app-2.1', { 'bin/app': `#!/bin/sh\n# ${lib}\n`, 'share/random': noise(90_000) }, [
    lib,
  ]);
  return { lib, app };
}
