import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { formatPublicKey, storePathHash } from '@nex-nix/nix';
import { describeEachNix, startProcess, type TempDir, tempDir } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type NixFixture, nixFixture } from './nix.ts';
import { serve, type TestServer } from './serve.ts';

const PACKAGE = join(import.meta.dirname, '..');

/** The examples in the README, run one after the other against a cache of this machine's Nix instead of cache.nixos.org. */
describeEachNix('README', (nix) => {
  let dir: TempDir;
  let fixture: NixFixture;
  let cache: TestServer;
  let examples: string[];

  beforeAll(async () => {
    dir = await tempDir();
    fixture = await nixFixture(nix, { sign: true });
    cache = await serve(await fixture.copyTo('cache', 'compression=zstd'));
    await writeFile(join(dir.path, 'server'), 'binary', { mode: 0o755 });
    const readme = await readFile(join(PACKAGE, 'README.md'), 'utf8');
    examples = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code = '']) =>
      code
        .replaceAll('https://cache.nixos.org', cache.url)
        .replaceAll(/cache\.nixos\.org-1:[^']*=/g, formatPublicKey(fixture.publicKey))
        .replaceAll(/\/nix\/store\/4rpiq[^']*/g, fixture.app)
        .replaceAll('4rpiqv9yr2pw5094v4wc33ijkqjpm9sa', storePathHash(fixture.app))
        .replaceAll(/\/var\/lib\/example|\/srv|\/tmp|\.(?=\/server)/g, dir.path),
    );
  });
  afterAll(async () => {
    await cache[Symbol.asyncDispose]();
    await fixture[Symbol.asyncDispose]();
    await dir[Symbol.asyncDispose]();
  });

  /** What the example with these words in it prints. */
  async function outputOf(words: string): Promise<string> {
    const file = join(PACKAGE, 'test', `.readme-${process.pid}.ts`);
    await writeFile(file, examples.find((example) => example.includes(words)) ?? '');
    try {
      await using run = startProcess(process.execPath, ['--conditions=nexsrc', file], { cwd: dir.path });
      expect(await run.exited, run.output()).toEqual({ code: 0, signal: null });
      return run.output();
    } finally {
      await rm(file);
    }
  }

  it('reads and verifies a narinfo', async () => {
    expect(await outputOf('checkTrust(')).toBe("{ trusted: true, by: 'signature', keyName: 'test-1' }\n");
  });

  it('unpacks a NAR', async () => {
    expect(await outputOf('unpackNar(')).toBe('true\n');
    expect(await readFile(join(dir.path, 'hello/bin/app'), 'utf8')).toContain(fixture.lib);
  });

  it('copies a closure, collects garbage and verifies', async () => {
    expect(await outputOf('openSubstituters(')).toBe(`2 ${join(dir.path, 'store', fixture.app)}\n`);
    expect(await outputOf('collectGarbage(')).toBe('0 []\n');
  });

  it('publishes a program', async () => {
    const storePath = (await outputOf('publish(')).trim();
    const root = `local?root=${join(dir.path, 'root')}`;
    await nix.run('nix', 'copy', '--from', `file://${join(dir.path, 'cache')}`, '--to', root, storePath);
    expect(await readFile(join(dir.path, 'root', storePath, 'bin/server'), 'utf8')).toBe('binary');
  });
});
