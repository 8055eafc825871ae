import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { afterEach, expect, it, vi } from 'vitest';
import { developerKeys, readIssuer } from './developer-keys.ts';

afterEach(() => vi.unstubAllEnvs());

it('developerKeys() makes both keys once, and reuses them, with the messages of Nex 0.1', async () => {
  await using home = await tempDir();
  vi.stubEnv('HOME', home.path);
  const said: string[] = [];
  const made = await developerKeys((text) => said.push(text));
  const [issuer, publisher] = [join(home.path, '.nex/issuer.nk'), join(home.path, '.nex/publisher.xk')];
  expect(said.splice(0)).toEqual([`Wrote new issuer account key: ${issuer}`, `Wrote new publisher xkey: ${publisher}`]);
  // As Nex 0.1 leaves them.
  await chmod(issuer, 0o644);
  const again = await developerKeys((text) => said.push(text));
  expect(said).toEqual([
    `Reusing existing issuer account key: ${issuer}`,
    `Reusing existing publisher xkey: ${publisher}`,
  ]);
  expect(again.issuer.getPublicKey()).toBe(made.issuer.getPublicKey());
  expect(again.publisher.getPublicKey()).toBe(made.publisher.getPublicKey());
  expect(await readFile(issuer, 'utf8')).toMatch(/^SA[A-Z2-7]{56}$/);
  expect(await readFile(publisher, 'utf8')).toMatch(/^SX[A-Z2-7]{56}$/);
  for (const file of [issuer, publisher]) expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect((await stat(join(home.path, '.nex'))).mode & 0o777).toBe(0o700);
});

it('readIssuer() refuses what is no issuer key, and shows nothing of it', async () => {
  await using folder = await tempDir();
  const file = join(folder.path, 'issuer.nk');
  await expect(readIssuer(file)).rejects.toMatchObject({ code: 'CLI_KEY_INVALID', kind: 'usage' });
  for (const text of ['SAnot a key', '']) {
    await writeFile(file, text);
    await expect(readIssuer(file)).rejects.toThrow(
      `Cannot use the issuer account key in "${file}": it is not a seed that begins with SA`,
    );
  }
});
