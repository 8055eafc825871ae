import { glob, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describeEachNix, type TempDir, tempDir } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ROOT, StubbedFlake } from './flake.ts';

describeEachNix('files in the Nix language', (nix) => {
  it('can be parsed, all of them', async () => {
    const files = await Array.fromAsync(
      glob(['flake.nix', 'nix/**/*.nix', 'examples/*/**/*.nix', 'test/nix/**/*.nix'], { cwd: ROOT }),
    );
    expect(files).toContain('nix/guest.nix');
    await nix.run('nix-instantiate', '--parse', ...files.map((file) => join(ROOT, file)));
  });
});

describeEachNix('the flake, with a stub of nixpkgs', (nix) => {
  let folder: TempDir;
  let flake: StubbedFlake;

  beforeAll(async () => {
    folder = await tempDir();
    flake = await StubbedFlake.make(folder.path);
  });
  afterAll(async () => folder[Symbol.asyncDispose]());

  it('passes the checks of its outputs', async () => {
    const everywhere = nix.isAtLeast('2.18') ? ['--all-systems'] : [];
    await flake.run(nix, ['flake', 'check', '--no-build', ...everywhere]);
  });

  it('needs nothing built to know what to build, on both kinds of machine', async () => {
    for (const system of ['x86_64-linux', 'aarch64-linux']) {
      const attribute = `packages.${system}.guest-image.drvPath`;
      const derivation = await flake.run(
        nix,
        ['eval', '--raw', '--option', 'allow-import-from-derivation', 'false'],
        attribute,
      );
      expect(basename(derivation)).toMatch(/^[0-9a-z]{32}-nex-guest-image\.drv$/);
    }
  });

  it('sets no option that NixOS does not have', async () => {
    const guest = join(flake.folder, 'nix/guest.nix');
    const text = await readFile(guest, 'utf8');
    try {
      await writeFile(guest, text.replace('swraid.enable', 'swRaid.enable'));
      const evaluated = flake.run(
        nix,
        ['eval', '--raw'],
        'nixosConfigurations.guest.config.system.build.toplevel.drvPath',
      );
      await expect(evaluated).rejects.toThrow("The option `boot.swRaid' does not exist");
    } finally {
      await writeFile(guest, text);
    }
  });

  it('has a guest that takes further modules, whose own words count more than its defaults', async () => {
    const more = '{ nex.guest.uid = 4711; boot.kernelParams = [ "mine" ]; networking.hostName = "mine"; }';
    const asked = `{ users, boot, networking, ... }: [ users.users.nex-workload.uid boot.kernelParams networking.hostName ]`;
    const apply = `guest: (${asked}) (guest.extendModules { modules = [ (${more}) ]; }).config`;
    const [uid, words, name] = JSON.parse(
      await flake.run(nix, ['eval', '--json', '--apply', apply], 'nixosConfigurations.guest'),
    ) as [number, string[], string];
    expect([uid, name]).toEqual([4711, 'mine']);
    expect(words).toEqual(expect.arrayContaining(['panic=-1', 'mine']));
  });
});
