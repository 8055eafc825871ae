import { existsSync } from 'node:fs';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { devEnvironment, devLog, DevServices, wipe } from '@nex-nix/devenv';
import { describeWith, tempDir } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { NEX } from '../../../test/e2e/nex.ts';

vi.setConfig({ testTimeout: 60_000 });

const command = [process.execPath, NEX];
const FREE = { port: 0, monitorPort: 0, cachePort: 0 };

describeWith(['nats-server'], 'wipe()', () => {
  it('removes what dev services have made, and nothing else, not while they run; the environment says what there is', async () => {
    await using dir = await tempDir();
    const dataDir = join(dir.path, 'data');
    expect(await wipe(dataDir, { dryRun: true })).toEqual([]);
    expect(existsSync(dataDir)).toBe(false);
    expect(Object.keys(await devEnvironment(dataDir))).toEqual(
      expect.not.arrayContaining(['NATS_URL', 'NEX_ISSUER_SIGNING_KEY', 'BINARY_CACHE_URL']),
    );
    const running = await DevServices.start({ dataDir, command, ...FREE });
    const account = running.accountPublicKey;
    const environment = running.env();
    expect(environment).toMatchObject({
      NATS_URL: running.url,
      NEX_ISSUER_ROOT_ACCOUNT: account,
      NEX_SYSTEM_CONTEXT: 'Sys',
      BINARY_CACHE_URL: running.cache?.url,
      BINARY_CACHE_PUBLIC_KEY: running.cache?.publicKey,
    });
    for (const dryRun of [true, false]) {
      await expect(wipe(dataDir, { dryRun })).rejects.toMatchObject({ code: 'DEVENV_ALREADY_RUNNING' });
    }
    await running[Symbol.asyncDispose]();
    expect(await devEnvironment(dataDir)).toEqual(environment);
    expect((await Array.fromAsync(devLog(dataDir))).at(-1)).toMatchObject({ service: 'nats', text: 'stopped' });

    // What somebody else has put there, also where one would not think of it, and what is elsewhere.
    const others = ['notes.txt', 'nats/context/Mine.json', 'nsc/keys/U/AA/notes', 'cache/old/token', 'logs/other.log'];
    for (const file of [...others, '../elsewhere/precious']) {
      await mkdir(join(dataDir, file, '..'), { recursive: true });
      await writeFile(join(dataDir, file), 'mine');
    }
    await symlink('../../elsewhere', join(dataDir, 'nats/mine'));
    const goes = await wipe(dataDir, { dryRun: true });
    expect(goes).toEqual(
      expect.arrayContaining(['nsc/Nex', 'nats/jetstream', 'ports.json'].map((path) => join(dataDir, path))),
    );
    expect(goes).not.toContain(join(dataDir, 'cache'));
    expect(existsSync(join(dataDir, 'nsc/Nex'))).toBe(true);

    expect(await wipe(dataDir)).toEqual(goes);
    for (const file of [...others, '../elsewhere/precious', 'nats/mine/precious']) {
      expect(await readFile(join(dataDir, file), 'utf8')).toBe('mine');
    }
    const { NATS_URL, BINARY_CACHE_URL, NEX_ISSUER_ROOT_ACCOUNT, ...rest } = await devEnvironment(dataDir);
    expect([NATS_URL, BINARY_CACHE_URL]).toEqual([undefined, undefined]);
    expect(NEX_ISSUER_ROOT_ACCOUNT).toMatch(/^A[A-Z2-7]{55}$/);
    expect(NEX_ISSUER_ROOT_ACCOUNT).not.toBe(account);
    for (const file of [rest['NEX_ISSUER_SIGNING_KEY'], rest['NEX_ISSUER_OPERATOR_SEED']]) {
      expect(existsSync(file ?? '')).toBe(true);
    }
    await using again = await DevServices.start({ dataDir, ...FREE });
    expect(again.accountPublicKey).toBe(NEX_ISSUER_ROOT_ACCOUNT);
  });

  it('lets nex clear away what a node has left, and refuses where it cannot', async () => {
    await using dir = await tempDir();
    await mkdir(join(dir.path, 'node/sandboxes'), { recursive: true });
    await expect(wipe(dir.path)).rejects.toMatchObject({ code: 'DEVENV_WIPE_REFUSED', kind: 'refused' });
    const failing = ['sh', '-c', `echo '{"error":{"code":"X","message":"no such luck"}}'; exit 1`];
    await expect(wipe(dir.path, { command: failing })).rejects.toMatchObject({
      message: `Cannot remove "${dir.path}/node": no such luck`,
    });
    expect(existsSync(join(dir.path, 'node'))).toBe(true);
    expect(await wipe(dir.path, { command })).toEqual([join(dir.path, 'node')]);
    expect(existsSync(join(dir.path, 'node'))).toBe(false);
  });
});
