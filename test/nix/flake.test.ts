import { glob, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describeEachNix, type TempDir, tempDir } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ROOT, StubbedFlake } from './flake.ts';

/** All packages are in one of these, and so is the shell. */
const CHECKS = ['dev-shell', 'echo-workload', 'format', 'guest-image', 'nex'];
/** Of a machine that has much else to do: all of it is seconds of one processor. */
const TIMEOUT = 120_000;

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

  it('passes the checks of its outputs', { timeout: TIMEOUT }, async () => {
    const everywhere = nix.isAtLeast('2.18') ? ['--all-systems'] : [];
    await flake.run(nix, ['flake', 'check', '--no-build', ...everywhere]);
  });

  it('needs nothing built to know what to build, on both kinds of machine', { timeout: TIMEOUT }, async () => {
    const apply = 'builtins.mapAttrs (_: builtins.mapAttrs (_: output: output.drvPath))';
    const options = ['eval', '--json', '--option', 'allow-import-from-derivation', 'false', '--apply', apply];
    const checks = JSON.parse(await flake.run(nix, options, 'checks')) as Record<string, Record<string, string>>;
    expect(Object.keys(checks)).toEqual(['aarch64-linux', 'x86_64-linux']);
    for (const derivations of Object.values(checks)) {
      expect(Object.keys(derivations)).toEqual(expect.arrayContaining(CHECKS));
      for (const path of Object.values(derivations)) expect(basename(path)).toMatch(/^[0-9a-z]{32}-\S+\.drv$/);
    }
  });

  it('fetches for each kind of machine what npm has for it, and nothing for others', async () => {
    const apply = 'nex: nex.attributes.passthru.nodeModules.attributes.places';
    for (const [system, cpu] of [
      ['x86_64-linux', 'x64'],
      ['aarch64-linux', 'arm64'],
    ]) {
      const places = JSON.parse(
        await flake.run(nix, ['eval', '--json', '--apply', apply], `packages.${system}.nex`),
      ) as string[];
      expect(places).toEqual(expect.arrayContaining(['node_modules/commander', 'node_modules/@napi-rs/lzma']));
      const native = places.filter((place) => /-(?:x64|arm64)/.test(place));
      expect(native.filter((place) => !place.endsWith(`linux-${cpu}-gnu`))).toEqual([]);
      // Of use to those who change nex, not to those who run it.
      expect(places.filter((place) => /typescript|vitest|node-linux/.test(place))).toEqual([]);
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
