import { createHash } from 'node:crypto';
import { chmod, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  checkTrust,
  type ContentAddress,
  contentAddressedPath,
  contentCheck,
  dumpNar,
  formatContentAddress,
  type HashAlgorithm,
  LocalStore,
  narHashOf,
  parseContentAddress,
  type PathInfo,
  parseStorePath,
  type StorePath,
  storePathName,
} from '@nex-nix/nix';
import { describeEachNix, tempDir } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parsePathInfoJson } from '../src/formats/path-info-json.ts';
import { registration, storePath, writeContent } from './nix.ts';

const ALGORITHMS: readonly HashAlgorithm[] = ['md5', 'sha1', 'sha256', 'sha512'];
const CONTENT = 'some content\n';

async function* toStream(bytes: Buffer): AsyncGenerator<Uint8Array, void> {
  yield bytes;
}

describeEachNix('content addresses and real Nix', (nix) => {
  let dir: string;
  let store: string;
  let folder: string;
  let file: string;
  let cleanUp: () => Promise<void>;
  beforeAll(async () => {
    const temp = await tempDir('nex-nix-');
    cleanUp = async () => temp[Symbol.asyncDispose]();
    dir = temp.path;
    store = `local?root=${join(dir, 'root')}`;
    folder = join(dir, 'folder');
    file = join(folder, 'file');
    await mkdir(folder);
    await writeFile(file, CONTENT);
    await writeFile(join(folder, 'run'), '#!/bin/sh\n');
    await chmod(join(folder, 'run'), 0o755);
    await symlink('file', join(folder, 'link'));
  });
  afterAll(() => cleanUp());

  const run = async (command: string, ...args: string[]) =>
    (await nix.run(command, '--store', store, ...args)).toString().trim();
  const infosOf = async (...paths: string[]) => parsePathInfoJson(await run('nix', 'path-info', '--json', ...paths));
  const narDigest = async (path: string, algorithm: HashAlgorithm) => {
    const hash = createHash(algorithm);
    for await (const chunk of dumpNar(path)) hash.update(chunk);
    return hash.digest();
  };
  const fileDigest = (algorithm: HashAlgorithm) => createHash(algorithm).update(CONTENT).digest();

  /** Path and address as Nix has them; the content checked as on an import. */
  const expectAgreement = async (
    path: string,
    ca: ContentAddress,
    references: readonly StorePath[] = [],
  ): Promise<PathInfo> => {
    expect(contentAddressedPath(ca, storePathName(parseStorePath(path)), { references })).toBe(path);
    const info = (await infosOf(path))[0];
    if (info === undefined) throw new Error(`${path} is not valid`);
    expect(info).toMatchObject({ ca: formatContentAddress(ca), references });
    expect(parseContentAddress(formatContentAddress(ca))).toEqual({ ...ca, digest: new Uint8Array(ca.digest) });
    await check(info);
    return info;
  };
  const check = async (info: PathInfo) => {
    const contents = contentCheck(info);
    for await (const chunk of dumpNar(join(dir, 'root', info.storePath))) contents?.update(chunk);
    contents?.verify('Nix');
  };

  it.each(ALGORITHMS)('`nix-store --add-fixed %s` gives the path we compute', async (algorithm) => {
    const flat = await run('nix-store', '--add-fixed', algorithm, file);
    const recursive = await run('nix-store', '--add-fixed', '--recursive', algorithm, folder);
    const infos = [
      await expectAgreement(flat, { method: 'flat', algorithm, digest: fileDigest(algorithm) }),
      await expectAgreement(recursive, { method: 'nar', algorithm, digest: await narDigest(folder, algorithm) }),
    ];
    const isBroken = algorithm === 'md5' || algorithm === 'sha1';
    for (const info of infos) expect(checkTrust(info, []).trusted).toBe(!isBroken);
  });

  it('`nix-store --add` and `nix store add-path`, `add-file` and `add` give the paths we compute', async () => {
    const nar: ContentAddress = { method: 'nar', algorithm: 'sha256', digest: await narDigest(folder, 'sha256') };
    const flat: ContentAddress = { method: 'flat', algorithm: 'sha256', digest: fileDigest('sha256') };
    await expectAgreement(await run('nix-store', '--add', folder), nar);
    await expectAgreement(await run('nix', 'store', 'add-path', '--name', 'a+b', folder), nar);
    await expectAgreement(await run('nix', 'store', 'add-file', '--name', 'flat', file), flat);
    if (!nix.isAtLeast('2.20')) return;
    const add = (mode: string, path: string) => run('nix', 'store', 'add', '--mode', mode, '--name', 'new', path);
    await expectAgreement(await add('nar', folder), nar);
    await expectAgreement(await add('flat', file), flat);
    await expectAgreement(await add('text', file), { ...flat, method: 'text' });
  });

  it('`builtins.toFile` with references gives the path we compute', async () => {
    const toFile = (expression: string) => run('nix', 'eval', '--raw', '--expr', expression);
    const text = (content: string): ContentAddress => ({
      method: 'text',
      algorithm: 'sha256',
      digest: createHash('sha256').update(content).digest(),
    });
    const one = await toFile('builtins.toFile "one" "1"');
    const two = await toFile('builtins.toFile "two" "2"');
    const both = await toFile('builtins.toFile "both" "${builtins.toFile "two" "2"} and ${builtins.toFile "one" "1"}"');
    await expectAgreement(one, text('1'));
    const references = [one, two].map(parseStorePath).sort();
    const info = await expectAgreement(both, text(`${two} and ${one}`), references);
    expect(checkTrust(info, [])).toEqual({ trusted: true, by: 'content-address' });
    expect(checkTrust({ ...info, references: references.slice(1) }, []).trusted).toBe(false);
  });

  it('`nix store make-content-addressed` makes paths with self references that we trust without a signature', async () => {
    const lib = storePath('lib');
    const app = storePath('app');
    const root = join(dir, 'root');
    await writeContent(root, lib, { 'lib/a': Buffer.alloc(300_000, `${lib} `), 'lib/b': Buffer.from(lib) });
    await writeContent(root, app, { 'bin/app': Buffer.from(`${lib}\n${app}${app}`) });
    const records = [await registration(nix, root, lib, [lib]), await registration(nix, root, app, [app, lib])];
    await nix.runWithInput(records.join(''), 'nix-store', '--store', store, '--load-db');
    const { rewrites } = JSON.parse(await run('nix', 'store', 'make-content-addressed', '--json', app)) as {
      rewrites: Record<string, string>;
    };
    const infos = await infosOf('-r', rewrites[app] ?? '');
    expect(infos).toHaveLength(2);
    await using local = await LocalStore.open({ dir: join(dir, 'local') });
    // References first: `lib` has only itself.
    infos.sort((a, b) => a.references.length - b.references.length);
    for (const info of infos) {
      const ca = parseContentAddress(info.ca ?? '');
      if (ca === undefined) throw new Error(`${info.ca} is unknown`);
      const references = info.references.filter((path) => path !== info.storePath);
      expect(references).not.toHaveLength(info.references.length);
      expect(contentAddressedPath(ca, storePathName(info.storePath), { references, self: true })).toBe(info.storePath);
      expect(checkTrust(info, [])).toEqual({ trusted: true, by: 'content-address' });
      await check(info);
      const other = { ...info, ca: infos.find(({ ca }) => ca !== info.ca)?.ca ?? '' };
      expect(checkTrust(other, []).trusted).toBe(false);
      const mismatch = expect.objectContaining({ code: 'NIX_CONTENT_MISMATCH' });
      await expect(check(other)).rejects.toThrow(mismatch);
      const nar = Buffer.concat(await Array.fromAsync(dumpNar(join(root, info.storePath))));
      const damaged = Buffer.from(nar.toString('latin1').replace('nix/store', 'nix/stole'), 'latin1');
      const damagedInfo = { ...info, narHash: narHashOf(createHash('sha256').update(damaged).digest()) };
      expect(checkTrust(damagedInfo, [])).toMatchObject({ trusted: true });
      await expect(local.add(damagedInfo, toStream(damaged))).rejects.toThrow(mismatch);
      expect(await local.add(info, toStream(nar))).toBe('added');
    }
  });

  it.each([
    '.',
    '..',
    '.-x',
    '..-x',
    '.x',
    '...',
    '..x',
    'a b',
    'ä',
    'a_',
    '-',
    '+?=',
    'x'.repeat(211),
    'x'.repeat(212),
  ])('the newest Nix accepts the name %j if and only if we do', async (name) => {
    const ca: ContentAddress = { method: 'flat', algorithm: 'sha256', digest: fileDigest('sha256') };
    const theirs = await run('nix', 'store', 'add-file', '--name', name, file).catch(() => undefined);
    const isNewRule = /^\.\.?(-|$)/.test(name) && !nix.isAtLeast('2.21');
    if (theirs === undefined || isNewRule) {
      expect(() => contentAddressedPath(ca, name)).toThrow(expect.objectContaining({ code: 'NIX_STORE_PATH_INVALID' }));
    } else expect(contentAddressedPath(ca, name)).toBe(theirs);
  });

  it('contents that are tampered with do not pass, whatever the address', async () => {
    const paths = [
      await run('nix-store', '--add-fixed', 'sha1', file),
      await run('nix-store', '--add-fixed', '--recursive', 'sha512', file),
      await run('nix', 'eval', '--raw', '--expr', 'builtins.toFile "text" "some text"'),
    ];
    for (const info of await infosOf(...paths)) {
      const nar = Buffer.concat(await Array.fromAsync(dumpNar(join(dir, 'root', info.storePath))));
      const at = nar.indexOf(await readFile(join(dir, 'root', info.storePath)));
      nar[at] = (nar[at] ?? 0) ^ 1;
      const contents = contentCheck(info);
      contents?.update(nar);
      expect(() => contents?.verify('"Nix"')).toThrow(expect.objectContaining({ code: 'NIX_CONTENT_MISMATCH' }));
    }
  });
});
