import { createCipheriv, createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { NatsConnection } from '@nats-io/nats-core';
import { CacheService, type CacheServiceOptions, NatsCache } from '@nex-nix/cache';
import {
  dumpNar,
  encodeNixBase32,
  generateSecretKey,
  narHashOf,
  type PathInfo,
  type PathSource,
  type StorePath,
  storePathFromBaseName,
} from '@nex-nix/nix';
import { startNatsServer, tempDir, type TempDir, type TestNatsServer } from '@nex-nix/test-kit';

/** Back soon after a restart of the server. */
const CONNECT = { reconnectTimeWait: 50 };

/** The same pseudo-random bytes for the same seed. */
export function noise(length: number, seed = 1): Buffer {
  return createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16)).update(Buffer.alloc(length));
}

/** Store paths made of folders on disk, unsigned, as if a build had made them. Counts what is read. */
export class TreeSource implements PathSource, AsyncDisposable {
  readonly name = 'the test tree';
  /** Names of the paths whose NARs were read. */
  readonly read: string[] = [];
  readonly #dir: TempDir;
  readonly #infos = new Map<StorePath, { info: PathInfo; folder: string }>();

  static async open(): Promise<TreeSource> {
    return new TreeSource(await tempDir('nex-cache-tree-'));
  }

  private constructor(dir: TempDir) {
    this.#dir = dir;
  }

  /** Adds a path with these files. The same name gives the same path, whatever the files. */
  async add(
    name: string,
    files: Readonly<Record<string, string | Uint8Array>>,
    more: Partial<Pick<PathInfo, 'references' | 'signatures'>> = {},
  ): Promise<PathInfo> {
    const hash = createHash('sha256').update(name).digest().subarray(0, 20);
    const storePath = storePathFromBaseName(`${encodeNixBase32(hash)}-${name}`);
    const folder = join(this.#dir.path, String(this.#infos.size), name);
    await mkdir(folder, { recursive: true });
    for (const [file, content] of Object.entries(files)) {
      await mkdir(dirname(join(folder, file)), { recursive: true });
      await writeFile(join(folder, file), content);
    }
    const digest = createHash('sha256');
    let narSize = 0;
    for await (const bytes of dumpNar(folder)) {
      digest.update(bytes);
      narSize += bytes.length;
    }
    const narHash = narHashOf(digest.digest());
    const info = { storePath, narHash, narSize, references: [], signatures: [], ...more };
    this.#infos.set(storePath, { info, folder });
    return info;
  }

  async pathInfo(path: StorePath): Promise<PathInfo | undefined> {
    return this.#infos.get(path)?.info;
  }

  async *nar({ storePath }: PathInfo, { signal }: { signal?: AbortSignal } = {}): AsyncGenerator<Uint8Array> {
    const entry = this.#infos.get(storePath);
    if (entry === undefined) throw new Error(`no ${storePath}`);
    this.read.push(entry.info.storePath.slice(44));
    yield* dumpNar(entry.folder, { signal });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dir[Symbol.asyncDispose]();
  }
}

export interface TestCache extends AsyncDisposable {
  readonly server: TestNatsServer;
  /** The connection of the client. */
  readonly nc: NatsConnection;
  readonly cache: NatsCache;
  readonly source: TreeSource;
  service: CacheService;
}

/** A server, a service and a client of its own, and an empty source. */
export async function startCache(options: Partial<CacheServiceOptions> = {}): Promise<TestCache> {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await startNatsServer());
  const source = stack.use(await TreeSource.open());
  const service = await startService(server, options);
  const nc = await server.connect(CONNECT);
  const cache = await NatsCache.open(nc);
  const owned = stack.move();
  const test = {
    server,
    nc,
    cache,
    source,
    service,
    async [Symbol.asyncDispose]() {
      await test.service[Symbol.asyncDispose]();
      await owned.disposeAsync();
    },
  };
  return test;
}

export async function startService(
  server: TestNatsServer,
  options: Partial<CacheServiceOptions> = {},
): Promise<CacheService> {
  return CacheService.start(await server.connect(CONNECT), {
    secretKey: generateSecretKey('test-cache-1'),
    ...options,
  });
}

/** A small closure: `app` refers to itself and to `lib`, `lib` to `data`. */
export async function addClosure(source: TreeSource): Promise<{ data: PathInfo; lib: PathInfo; app: PathInfo }> {
  const data = await source.add('data-1', { 'big.bin': noise(3 << 20), 'zeros.bin': Buffer.alloc(4 << 20) });
  const lib = await source.add('lib-1', { 'lib/x.so': noise(700_000, 2) }, { references: [data.storePath] });
  const files = { 'bin/app': '#!/bin/sh\n' };
  const self = (await source.add('app-1', files)).storePath;
  const app = await source.add('app-1', files, { references: [self, lib.storePath] });
  return { data, lib, app };
}
