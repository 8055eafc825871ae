import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { copyClosure, LocalStore, NixStore, parseStorePath } from '@nex-nix/nix';
import { describeWith, tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { startCache } from './fixture.ts';

const EXPRESSION = `
  let lib = builtins.toFile "lib" "a library"; in
  builtins.toFile "app" "uses \${lib} and \${builtins.toFile "conf" "of \${lib}"}"
`;

describeWith(['nats-server', 'nix'], 'with real Nix', () => {
  it('carries a closure from a Nix store into a store of our own', async () => {
    await using test = await startCache();
    await using dir = await tempDir();
    const home = join(dir.path, 'home');
    await mkdir(home);
    const env = {
      ...process.env,
      HOME: home,
      XDG_CACHE_HOME: join(home, 'cache'),
      NIX_CONFIG: 'substituters =\nbuild-users-group =\nexperimental-features = nix-command',
    };
    const root = join(dir.path, 'nix');
    const command = ['eval', '--raw', '--store', `local?root=${root}`, '--expr', EXPRESSION];
    const { stdout } = await promisify(execFile)('nix', command, { env });
    const app = parseStorePath(stdout.trim());

    const store = new NixStore({ root, env });
    const report = await test.cache.push(store, [app]);
    expect(report.paths).toEqual({ total: 3, pushed: 3, present: 0 });

    await using ours = await LocalStore.open({ dir: join(dir.path, 'ours') });
    const { copied } = await copyClosure(test.cache, ours, [app], { trustedKeys: [test.cache.publicKey] });
    expect(copied).toHaveLength(3);
    expect(copied.at(-1)).toBe(app);
    expect(await test.cache.closure([app])).toMatchObject(await ours.closure([app]));
  });
});
