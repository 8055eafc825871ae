import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  checkTrust,
  formatNarInfo,
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  parseNarInfo,
  parseSecretKey,
  publicKeyOf,
  signPathInfo,
} from '@nex-nix/nix';
import { describeEachNix } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type NixFixture, nixFixture } from './nix.ts';

describeEachNix('formats and real Nix', (nix) => {
  let fixture: NixFixture;
  beforeAll(async () => {
    fixture = await nixFixture(nix, { sign: true });
  });
  afterAll(() => fixture[Symbol.asyncDispose]());

  it('narinfos of `nix copy` come back byte for byte, and their signatures verify', async () => {
    const cache = await fixture.copyTo('formats', 'compression=zstd');
    const files = (await readdir(cache)).filter((name) => name.endsWith('.narinfo'));
    expect(files).toHaveLength(2);
    for (const file of files) {
      const text = await readFile(join(cache, file), 'utf8');
      const info = parseNarInfo(text, file);
      expect(formatNarInfo(info)).toBe(text);
      expect(checkTrust(info, [fixture.publicKey])).toEqual({ trusted: true, by: 'signature', keyName: 'test-1' });
    }
  });

  it('keys of `nix key` sign as Nix signs', async () => {
    const key = parseSecretKey(await readFile(fixture.keyFile, 'utf8'));
    expect(formatSecretKey(key)).toBe((await readFile(fixture.keyFile, 'utf8')).trim());
    expect(formatPublicKey(publicKeyOf(key))).toBe(formatPublicKey(fixture.publicKey));
    const cache = await fixture.copyTo('signed', 'compression=none');
    for (const file of (await readdir(cache)).filter((name) => name.endsWith('.narinfo'))) {
      const info = parseNarInfo(await readFile(join(cache, file), 'utf8'));
      expect(info.signatures).toEqual([signPathInfo(info, key)]);
    }
  });

  it('Nix accepts our signatures, and refuses without them', async () => {
    const key = generateSecretKey('ours-1');
    const cache = await fixture.copyTo('resigned', 'compression=none');
    const pull = (name: string) =>
      nix.run(
        'nix',
        '--option',
        'trusted-public-keys',
        formatPublicKey(publicKeyOf(key)),
        'copy',
        '--from',
        `file://${cache}`,
        '--to',
        `local?root=${join(fixture.dir, name)}`,
        fixture.app,
      );
    await expect(pull('refused')).rejects.toThrow(/lacks a (valid )?signature/);
    for (const file of (await readdir(cache)).filter((name) => name.endsWith('.narinfo'))) {
      const info = parseNarInfo(await readFile(join(cache, file), 'utf8'));
      await writeFile(join(cache, file), formatNarInfo({ ...info, signatures: [signPathInfo(info, key)] }));
    }
    // Nix remembers narinfos by URL; a fresh name for the cache keeps it from doing so.
    await pull('accepted');
    expect(await readdir(join(fixture.dir, 'accepted/nix/store'))).toContain(fixture.app.slice('/nix/store/'.length));
  });

  it('content addresses of every kind give the paths that Nix gives', async () => {
    const dir = join(fixture.dir, 'content');
    await nix.run('mkdir', dir);
    await writeFile(join(dir, 'file'), 'some content');
    const store = ['--store', fixture.store];
    const added = [
      await nix.run('nix', ...store, 'store', 'add-path', '--name', 'a-folder', dir),
      await nix.run('nix', ...store, 'store', 'add-path', '--name', 'a-file', join(dir, 'file')),
      await nix.run('nix', ...store, 'store', 'add-file', '--name', 'flat', join(dir, 'file')),
      await nix.run('nix-store', ...store, '--add-fixed', 'sha512', join(dir, 'file')),
      await nix.run(
        'nix',
        ...store,
        'eval',
        '--raw',
        '--expr',
        'builtins.toFile "text" "see ${builtins.toFile "other" "x"}"',
      ),
      await nix.run('nix-store', ...store, '--add-fixed', 'sha1', join(dir, 'file')),
    ].map((path) => path.toString().trim());
    const cache = join(fixture.dir, 'addressed');
    await nix.run('nix', ...store, 'copy', '--to', `file://${cache}?compression=none`, ...added);
    const trust = async (path: string | undefined) => {
      const file = `${path?.slice('/nix/store/'.length, '/nix/store/'.length + 32)}.narinfo`;
      return checkTrust(parseNarInfo(await readFile(join(cache, file), 'utf8')), []);
    };
    for (const path of added.slice(0, -1)) expect(await trust(path)).toEqual({ trusted: true, by: 'content-address' });
    // SHA-1 is broken: such a path needs a signature.
    expect(await trust(added.at(-1))).toMatchObject({ trusted: false });
  });
});
