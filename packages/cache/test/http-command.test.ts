import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describeEachNix, describeWith, tempDir, waitFor } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { runNex, startNex } from '../../../test/e2e/nex.ts';
import { addClosure, startCache } from './fixture.ts';
import { addPaths, nixMachine, TOKEN } from './http-fixture.ts';

describeWith(['nats-server'], 'nex cache serve', () => {
  it.each(['SIGINT', 'SIGTERM'] as const)(
    'says where it is, serves, and ends by %s',
    async (signal) => {
      await using test = await startCache();
      await using dir = await tempDir();
      const { app } = await addClosure(test.source);
      await test.cache.push(test.source, [app.storePath]);
      const tokenFile = join(dir.path, 'token');
      await writeFile(tokenFile, 'sixteen-characters\n', { mode: 0o600 });
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
      [['--tls-cert', short], '--tls-cert and --tls-key are needed both'],
      [['--tls-cert', short, '--tls-key', join(dir.path, 'none')], 'Cannot read the private key in'],
      [['--tls-cert', join(dir.path, 'none'), '--tls-key', short], 'Cannot read the certificate in'],
    ] as const) {
      const { code, stderr } = await runNex(['cache', 'serve', ...args]);
      expect(stderr).toContain(message);
      expect(code).toBe(2);
    }
  }, 60_000);

  it('says so when others may read the token', async () => {
    await using test = await startCache();
    await using dir = await tempDir();
    const tokenFile = join(dir.path, 'token');
    await writeFile(tokenFile, 'sixteen-characters\n', { mode: 0o640 });
    const args = ['-s', test.server.url, 'cache', 'serve', '--listen', '127.0.0.1:0', '--token-file', tokenFile];
    await using running = startNex(args);
    await waitFor('the door', () => running.stderr().includes('Ctrl-C stops it'), { timeout: 20_000 });
    expect(running.stderr()).toMatch(
      `Other users may read the token in "${tokenFile}": chmod 600 ${tokenFile}\nBinary cache at `,
    );
  }, 60_000);

  it('takes what curl sends', async () => {
    await using test = await startCache();
    await using dir = await tempDir();
    const tokenFile = join(dir.path, 'token');
    await writeFile(tokenFile, 'sixteen-characters\n', { mode: 0o600 });
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

/** An authority made for this, a certificate that it signed for 127.0.0.1, and a key that is of neither. */
async function makeCertificates(folder: string) {
  const file = (name: string) => join(folder, name);
  const openssl = async (...args: readonly string[]) => promisify(execFile)('openssl', args, { cwd: folder });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  await openssl('req', '-x509', ...newKey, '-subj', '/CN=Test authority', '-keyout', 'ca.key', '-out', 'ca.pem');
  await openssl('req', ...newKey.slice(0, -2), '-subj', '/CN=127.0.0.1', '-keyout', 'key.pem', '-out', 'request.pem');
  await writeFile(file('extensions'), 'subjectAltName = IP:127.0.0.1\n');
  const signing = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-extfile', 'extensions'];
  await openssl('x509', '-req', '-in', 'request.pem', ...signing, '-out', 'cert.pem');
  return { authority: file('ca.pem'), cert: file('cert.pem'), key: file('key.pem'), otherKey: file('ca.key') };
}

describeEachNix('nex cache serve over TLS', (nix) => {
  it('is written to and read by who trusts its authority, and by nobody else', async () => {
    await using test = await startCache();
    await using machine = await nixMachine(nix);
    const { app } = await addPaths(machine);
    const { authority, cert, key, otherKey } = await makeCertificates(machine.dir);
    const tokenFile = join(machine.dir, 'token');
    await writeFile(tokenFile, TOKEN, { mode: 0o600 });
    const args = ['-s', test.server.url, 'cache', 'serve', '--listen', '127.0.0.1:0', '--token-file', tokenFile];
    const refused = await runNex([...args, '--tls-cert', cert, '--tls-key', otherKey]);
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('Cannot use the certificate') as string });
    await using running = startNex([...args, '--tls-cert', cert, '--tls-key', key]);
    const url = await waitFor('the door', () => /^Binary cache at (https:\S+)\n/.exec(running.stderr())?.[1], {
      timeout: 20_000,
    });
    // The setting is younger than the variable.
    const trust = nix.isAtLeast('2.13') ? ['--option', 'ssl-cert-file', authority] : [];
    const nixOf = async (...more: readonly string[]) =>
      machine.run('env', ...(trust.length > 0 ? [] : [`NIX_SSL_CERT_FILE=${authority}`]), 'nix', ...trust, ...more);
    const store = `local?root=${machine.dir}/copy`;
    await nixOf('--store', machine.store, 'copy', '--to', `${url}?compression=zstd`, app);
    await nixOf('--store', store, 'copy', '--no-check-sigs', '--from', url, '--to', store, app);
    await machine.nix('--store', store, 'store', 'verify', '--no-trust', '-r', app);
    await using other = await nixMachine(nix);
    await expect(other.nix('path-info', '--store', url, app)).rejects.toThrow(/SSL|certificate|binary cache/);
  }, 90_000);
});
