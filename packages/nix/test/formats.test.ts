import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  checkTrust,
  formatHash,
  formatNarInfo,
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  type HashFormat,
  type NarInfo,
  type PathInfo,
  parseHash,
  parseNarInfo,
  parseSecretKey,
  publicKeyOf,
  signPathInfo,
} from '@nex-nix/nix';
import { describeEachNix } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parsePathInfoJson } from '../src/formats/path-info-json.ts';
import { type NixFixture, nixFixture, storePath } from './nix.ts';

describeEachNix('formats and real Nix', (nix) => {
  let fixture: NixFixture;
  /** Paths with references and deriver, with a reference to itself, addressed by content with references and without. */
  let everyKind: string[];
  const ourKey = generateSecretKey('cache.example.org-1');
  beforeAll(async () => {
    fixture = await nixFixture(nix, { sign: true });
    const text = await run('nix', 'eval', '--raw', '--expr', 'builtins.toFile "b" (builtins.toFile "a" "x")');
    const flat = await run('nix-store', '--add-fixed', 'sha1', fixture.keyFile);
    const folder = await run('nix-store', '--add', join(fixture.root, fixture.app));
    everyKind = [fixture.app, fixture.lib, text, flat, folder];
    await writeFile(join(fixture.dir, 'our-key'), formatSecretKey(ourKey));
    await run('nix', 'store', 'sign', '-k', join(fixture.dir, 'our-key'), ...everyKind);
  });
  afterAll(() => fixture[Symbol.asyncDispose]());

  const run = async (command: string, ...args: string[]) =>
    (await nix.run(command, '--store', fixture.store, ...args)).toString().trim();
  const readNarInfos = async (cache: string) => {
    const files = (await readdir(cache)).filter((name) => name.endsWith('.narinfo'));
    return Promise.all(files.map(async (file) => readFile(join(cache, file), 'utf8')));
  };

  it.each(['none', 'xz', 'zstd', 'bzip2', 'gzip', 'br'])(
    'narinfos of `nix copy` with %s are written byte for byte as Nix writes them',
    async (compression) => {
      const cache = join(fixture.dir, `every-kind-${compression}`);
      await run('nix', 'copy', '--to', `file://${cache}?compression=${compression}`, ...everyKind);
      const texts = await readNarInfos(cache);
      expect(texts).toHaveLength(6);
      const local = parsePathInfoJson(await run('nix', 'path-info', '-r', '--json', ...everyKind));
      for (const text of texts) {
        const info = parseNarInfo(text);
        expect(info.compression).toBe(compression);
        expect(formatNarInfo(info)).toBe(text);
        // Written out of what Nix says of the path in its own store, too.
        const known = local.find(({ storePath }) => storePath === info.storePath);
        expect(formatNarInfo({ ...info, ...known })).toBe(text);
        expect(pathInfoOf(info)).toEqual(known);
      }
    },
  );

  it('narinfos in every form that we accept say to Nix what they say to us', async () => {
    const cache = await fixture.copyTo('forms', 'compression=bzip2');
    const files = (await readdir(cache)).filter((name) => name.endsWith('.narinfo'));
    const file = files.find((name) => fixture.app.includes(name.slice(0, 32))) ?? '';
    const text = await readFile(join(cache, file), 'utf8');
    const { narHash, fileHash = '' } = parseNarInfo(text);
    const withHashes = (format: HashFormat) =>
      text
        .replace(narHash, formatHash(parseHash(narHash), format))
        .replace(fileHash, formatHash(parseHash(fileHash), format));
    const forms = [
      text,
      withHashes('base16'),
      withHashes('base64'),
      withHashes('sri'),
      `${text}Unknown: a: b \n`,
      text.replace(/^Compression.*\n/m, ''),
      text.replace(/^Compression.*$/m, 'Compression: '),
      text.replace(/^File.*\n/gm, ''),
      text.replace(/^References.*\n/m, ''),
      text.replace(/^References.*$/m, 'References: '),
      text.replace(/^Deriver.*$/m, 'Deriver: unknown-deriver'),
      text.replace(/^Sig.*\n/gm, ''),
      text.replace('nar/', 'http://localhost:1/nar/'),
      text.trimEnd().split('\n').toReversed().join('\n') + '\n',
    ];
    for (const [index, form] of forms.entries()) {
      // A cache of its own each time: Nix remembers narinfos by URL.
      const copy = join(fixture.dir, `form-${index}`);
      await mkdir(copy);
      await writeFile(join(copy, 'nix-cache-info'), 'StoreDir: /nix/store\n');
      await writeFile(join(copy, file), form);
      const json = await nix.run('nix', 'path-info', '--json', '--store', `file://${copy}`, fixture.app);
      expect(parsePathInfoJson(json.toString())).toEqual([pathInfoOf(parseNarInfo(form))]);
    }
  });

  it('path infos are the same in every version of `nix path-info --json`', async () => {
    const paths = [...everyKind, storePath('absent')];
    expect(parsePathInfoJson(await run('nix', 'path-info', '--json', ...paths))).toHaveLength(5);
    const infos = parsePathInfoJson(await run('nix', 'path-info', '--json', '-r', ...everyKind));
    expect(infos).toHaveLength(6);
    if (!nix.isAtLeast('2.33')) return;
    for (const version of ['1', '2']) {
      const json = await run('nix', 'path-info', '-r', '--json', '--json-format', version, ...everyKind);
      expect(parsePathInfoJson(json)).toEqual(infos);
    }
  });

  it('signatures are those of `nix store sign`, whatever the path', async () => {
    const converted = await nix.runWithInput(formatSecretKey(ourKey), 'nix', 'key', 'convert-secret-to-public');
    expect(converted.toString()).toBe(formatPublicKey(publicKeyOf(ourKey)));
    for (const info of parsePathInfoJson(await run('nix', 'path-info', '--json', ...everyKind))) {
      expect(info.signatures).toContain(signPathInfo(info, ourKey));
      expect(checkTrust(info, [publicKeyOf(ourKey)])).toMatchObject({ by: 'signature', keyName: ourKey.name });
    }
  });

  it('keys of `nix key` sign as Nix signs', async () => {
    const key = parseSecretKey(await readFile(fixture.keyFile, 'utf8'));
    expect(formatSecretKey(key)).toBe((await readFile(fixture.keyFile, 'utf8')).trim());
    expect(formatPublicKey(publicKeyOf(key))).toBe(formatPublicKey(fixture.publicKey));
    const cache = await fixture.copyTo('signed', 'compression=none');
    for (const file of (await readdir(cache)).filter((name) => name.endsWith('.narinfo'))) {
      const info = parseNarInfo(await readFile(join(cache, file), 'utf8'));
      expect(info.signatures).toContain(signPathInfo(info, key));
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
});

/** What a narinfo says of the path itself. */
function pathInfoOf(info: NarInfo): Partial<PathInfo> {
  const ofTheFile = new Set(['url', 'compression', 'fileHash', 'fileSize', 'extraFields']);
  return Object.fromEntries(Object.entries(info).filter(([key]) => !ofTheFile.has(key)));
}
