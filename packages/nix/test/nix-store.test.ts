import { join } from 'node:path';
import { NixStore, queryClosure } from '@nex-nix/nix';
import { describeEachNix } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type NixFixture, nixFixture, storePath } from './nix.ts';

describeEachNix('NixStore', (nix) => {
  let fixture: NixFixture;
  let store: NixStore;
  beforeAll(async () => {
    fixture = await nixFixture(nix, { sign: true });
    store = new NixStore({ root: fixture.root, env: nix.env });
  });
  afterAll(() => fixture[Symbol.asyncDispose]());

  it('tells what Nix knows of a path', async () => {
    const info = await store.pathInfo(fixture.lib);
    expect(info).toEqual({
      storePath: fixture.lib,
      narHash: expect.stringMatching(/^sha256:[0-9a-z]{52}$/),
      narSize: expect.any(Number),
      references: [fixture.lib],
      deriver: expect.stringMatching(/^\/nix\/store\/.*-x\.drv$/),
      signatures: [expect.stringMatching(/^test-1:/)],
    });
    expect(await store.pathInfo(storePath('absent'))).toBeUndefined();
  });

  it('lists closures, references first', async () => {
    expect((await queryClosure(store, [fixture.app])).map((info) => info.storePath)).toEqual([
      fixture.lib,
      fixture.app,
    ]);
    expect(await queryClosure(store, [])).toEqual([]);
    const absent = storePath('absent');
    await expect(queryClosure(store, [fixture.app, absent])).rejects.toMatchObject({
      code: 'NIX_PATH_NOT_FOUND',
      message: `Cannot find "${absent}": it is not in the Nix store in ${fixture.root}`,
      hint: `Build or fetch it with: nix-store --realise ${absent}`,
    });
  });

  it('reads NARs from disk', async () => {
    const info = await store.pathInfo(fixture.app);
    if (info === undefined) throw new Error('it is gone');
    const nar = Buffer.concat(await Array.fromAsync(store.nar(info)));
    expect(nar.equals(await nix.run('nix-store', '--dump', `${fixture.root}${fixture.app}`))).toBe(true);
    expect(nar).toHaveLength(info.narSize);
  });

  it('says that there is no Nix', async () => {
    const none = new NixStore({ command: join(fixture.dir, 'no-nix') });
    await expect(none.pathInfo(fixture.app)).rejects.toMatchObject({
      code: 'NIX_COMMAND_MISSING',
      kind: 'not-found',
      hint: expect.stringContaining('apt-get install nix-bin'),
    });
  });

  it('passes on what Nix complains of, and stops when it is told to', async () => {
    const broken = new NixStore({ root: join(fixture.keyFile, 'x'), env: nix.env });
    await expect(broken.pathInfo(fixture.app)).rejects.toMatchObject({ code: 'NIX_COMMAND_FAILED' });
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(store.pathInfo(fixture.app, { signal })).rejects.toThrow('enough');
  });
});
