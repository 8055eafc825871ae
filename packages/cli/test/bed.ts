import { createCipheriv } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CacheService } from '@nex-nix/cache';
import { formatPublicKey, generateSecretKey, type StorePath } from '@nex-nix/nix';
import { startNatsServer, tempDir, type TestNatsServer } from '@nex-nix/test-kit';
import { expect } from 'vitest';
import { type NexRun, runNex } from '../../../test/e2e/nex.ts';

/** A server with a cache, and a folder. */
export interface CacheBed extends AsyncDisposable {
  readonly server: TestNatsServer;
  readonly folder: string;
  readonly publicKey: string;
  /** Runs nex against the server. */
  nex(...args: string[]): Promise<NexRun>;
  /** Runs nex with --json; it must succeed and print one document. */
  json<T>(...args: string[]): Promise<T>;
  /** Makes a folder of files and pushes it; returns its store path. */
  push(name: string, files: Readonly<Record<string, string | Uint8Array>>): Promise<StorePath>;
}

/** @param config more lines for the configuration of the server; who does not say who it is must be allowed everything. */
export async function startCacheBed(config = ''): Promise<CacheBed> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await tempDir('nex-cli-')).path;
  const server = stack.use(await startNatsServer({ config }));
  const secretKey = generateSecretKey('test-cache-1');
  const service = stack.use(await CacheService.start(await server.connect(), { secretKey }));
  const nex = (...args: string[]) => runNex(['-s', server.url, ...args]);
  const json = async <T>(...args: string[]): Promise<T> => {
    const { code, stdout, stderr } = await nex('--json', ...args);
    expect({ code, stderr }, stdout).toEqual({ code: 0, stderr: '' });
    return JSON.parse(stdout) as T;
  };
  const owned = stack.move();
  return {
    server,
    folder,
    publicKey: formatPublicKey(service.publicKey),
    nex,
    json,
    async push(name, files) {
      await writeFiles(join(folder, name), files);
      const { storePaths } = await json<{ storePaths: StorePath[] }>('cache', 'push', join(folder, name));
      const [storePath] = storePaths;
      if (storePath === undefined) throw new Error('nothing was pushed');
      return storePath;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

export async function writeFiles(folder: string, files: Readonly<Record<string, string | Uint8Array>>): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
}

/** The same pseudo-random bytes for the same seed. */
export function noise(length: number, seed = 1): Buffer {
  return createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16)).update(Buffer.alloc(length));
}

/** A failure with this exit code: one sentence, and a hint where there is something to do; no stack trace. */
export function expectFailure({ code, stderr }: NexRun, wanted: number, pattern: RegExp): void {
  expect(stderr).toMatch(pattern);
  expect(stderr).not.toMatch(/\n\s+at /);
  expect(stderr).not.toContain('fault of nex itself');
  expect(code).toBe(wanted);
}
