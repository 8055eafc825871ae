import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describeWith, tempDir, waitFor } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { runNex, startNex } from '../../../test/e2e/nex.ts';
import { addClosure, startCache } from './fixture.ts';

describeWith(['nats-server'], 'nex cache serve', () => {
  it.each(['SIGINT', 'SIGTERM'] as const)(
    'says where it is, serves, and ends by %s',
    async (signal) => {
      await using test = await startCache();
      await using dir = await tempDir();
      const { app } = await addClosure(test.source);
      await test.cache.push(test.source, [app.storePath]);
      const tokenFile = join(dir.path, 'token');
      await writeFile(tokenFile, 'sixteen-characters\n');
      const args = ['-s', test.server.url, 'cache', 'serve', '--listen', '127.0.0.1:0', '--token-file', tokenFile];
      await using running = startNex([...args, '--priority', '12']);
      const url = await waitFor('the door', () => /^Binary cache at (http:\S+)\n/.exec(running.stderr())?.[1], {
        timeout: 20_000,
      });
      expect(await (await fetch(`${url}/nix-cache-info`)).text()).toContain('Priority: 12\n');
      expect((await fetch(`${url}/nar/${app.narHash.slice('sha256:'.length)}.nar.zst`)).status).toBe(200);
      const upload = { method: 'PUT', body: 'StoreDir: /nix/store\n' };
      expect((await fetch(`${url}/nix-cache-info`, upload)).status).toBe(401);
      const headers = { authorization: 'Bearer sixteen-characters' };
      expect((await fetch(`${url}/nix-cache-info`, { ...upload, headers })).status).toBe(200);
      running.kill(signal);
      expect(await running.exited).toMatchObject({ code: 0 });
    },
    60_000,
  );

  it('does not begin with options that make no sense', async () => {
    await using dir = await tempDir();
    const short = join(dir.path, 'token');
    await writeFile(short, 'short');
    for (const [args, message] of [
      [['--listen', 'nowhere'], 'Cannot listen on "nowhere"'],
      [['--token-file', short], 'it needs 16 characters'],
      [['--token-file', join(dir.path, 'none')], 'Cannot read the token'],
      [['--protect-reads'], 'needs --token-file'],
      [['--upstream', 'ftp://x'], 'Cannot take "ftp://x" for an upstream'],
    ] as const) {
      const { code, stderr } = await runNex(['cache', 'serve', ...args]);
      expect(stderr).toContain(message);
      expect(code).toBe(2);
    }
  }, 60_000);

  it('takes what curl sends', async () => {
    await using test = await startCache();
    await using dir = await tempDir();
    const tokenFile = join(dir.path, 'token');
    await writeFile(tokenFile, 'sixteen-characters\n');
    const args = ['-s', test.server.url, 'cache', 'serve', '--listen', '127.0.0.1:0', '--token-file', tokenFile];
    await using running = startNex(args);
    const url = await waitFor('the door', () => /^Binary cache at (http:\S+)\n/.exec(running.stderr())?.[1], {
      timeout: 20_000,
    });
    const log = `${url}/log/00000000000000000000000000000000-x.drv`;
    const curl = promisify(execFile);
    await curl('curl', ['-sf', '-u', 'any:sixteen-characters', '--data-binary', 'text', '-X', 'PUT', log]);
    expect((await curl('curl', ['-sf', log])).stdout).toBe('text');
  }, 60_000);
});
