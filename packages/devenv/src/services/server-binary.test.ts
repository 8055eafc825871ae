import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { afterEach, expect, it, vi } from 'vitest';
import { findNatsServer } from './server-binary.ts';

afterEach(() => vi.unstubAllEnvs());

async function fakeServer(folder: string, output: string): Promise<string> {
  const path = join(folder, 'nats-server');
  await writeFile(path, `#!/bin/sh\n${output}\n`, { mode: 0o755 });
  return path;
}

it('findNatsServer() finds the first on PATH that is new enough', async () => {
  await using dir = await tempDir();
  const path = await fakeServer(dir.path, 'echo "nats-server: v2.9.0"');
  vi.stubEnv('PATH', `/none:${dir.path}:/usr/bin`);
  expect(await findNatsServer()).toBe(path);
});

it.each([
  ['echo "nats-server: v2.8.4"', 'DEVENV_NATS_SERVER_OLD', /: it is version 2\.8\.4, at least 2\.9\.0 is needed$/],
  ['echo "nats-server: v1.99.9"', 'DEVENV_NATS_SERVER_OLD', /version 1\.99\.9/],
  ['echo hello', 'DEVENV_NATS_SERVER_FAILED', /: it does not tell its version$/],
  ['echo broken >&2; exit 3', 'DEVENV_NATS_SERVER_FAILED', /^Cannot run ".*nats-server": Command failed/],
])('findNatsServer() refuses one that does: %s', async (script, code, message) => {
  await using dir = await tempDir();
  const path = await fakeServer(dir.path, script);
  await expect(findNatsServer(path)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
});

it('findNatsServer() says how to install a missing one', async () => {
  await expect(findNatsServer('nats-server-of-nobody')).rejects.toMatchObject({
    code: 'DEVENV_NATS_SERVER_MISSING',
    kind: 'not-found',
    message: 'Cannot find "nats-server-of-nobody" on PATH',
    hint: 'apt-get install nats-server',
  });
});
