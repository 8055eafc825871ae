import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { DevServices, type DevServicesOptions } from '@nex-nix/devenv';
import { describeEachNix, describeWith, tempDir } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { NEX } from '../../../test/e2e/nex.ts';
import { addPaths, nixMachine } from '../../cache/test/http-fixture.ts';

vi.setConfig({ testTimeout: 60_000 });

const start = async (dataDir: string, options: Partial<DevServicesOptions> = {}) =>
  DevServices.start({
    dataDir,
    command: [process.execPath, NEX],
    port: 0,
    monitorPort: 0,
    cachePort: 0,
    ...options,
  });

const mode = async (file: string) => (await stat(file)).mode & 0o777;

/** Listens on a port until it is disposed of. */
async function holdPort(port = 0): Promise<AsyncDisposable & { port: number }> {
  const server = createServer().listen({ port, host: '127.0.0.1' });
  await once(server, 'listening');
  const address = server.address() as { port: number };
  return {
    port: address.port,
    async [Symbol.asyncDispose]() {
      server.close();
      await once(server, 'close');
    },
  };
}

describeEachNix('the binary cache of dev services', (nix) => {
  it('is written to and read by Nix, and has everything again after a restart, with the same key and token', async () => {
    await using dir = await tempDir();
    await using machine = await nixMachine(nix, { token: 'of-no-use-anywhere' });
    const { app } = await addPaths(machine);
    await using stack = new AsyncDisposableStack();
    const first = stack.use(await start(dir.path));
    const { url = '', publicKey = '', netrcFile = '', tokenFile = '' } = first.cache ?? {};
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    const copyIn = ['--store', machine.store, 'copy', '--to', `${url}?compression=zstd`, app];
    await expect(machine.nix(...copyIn)).rejects.toThrow(/401|403|token/i);
    await machine.nix(...copyIn, '--option', 'netrc-file', netrcFile);
    for (const file of [tokenFile, netrcFile, first.cacheKeyFile]) expect(await mode(file)).toBe(0o600);
    const secrets = async () => Promise.all([tokenFile, netrcFile, first.cacheKeyFile].map((f) => readFile(f, 'utf8')));
    const before = await secrets();
    await chmod(tokenFile, 0o644);
    await first[Symbol.asyncDispose]();
    await expect(fetch(`${url}/nix-cache-info`)).rejects.toThrow('fetch failed');

    const second = stack.use(await start(dir.path, { cachePort: Number(new URL(url).port) }));
    expect(second.cache).toMatchObject({ url, publicKey });
    expect(await secrets()).toEqual(before);
    expect(await mode(tokenFile)).toBe(0o600);
    // Another machine: who wrote a narinfo remembers it as it was, without the cache's signature.
    await using reader = await nixMachine(nix);
    const trust = ['--option', 'extra-trusted-public-keys', publicKey];
    const copyOut = ['copy', '--from', url, '--to', reader.store, app];
    await expect(reader.nix('--store', reader.store, ...copyOut)).rejects.toThrow('signature');
    await reader.nix('--store', reader.store, ...copyOut, ...trust);
    await reader.nix('--store', reader.store, 'store', 'verify', '--no-trust', '-r', app);
    const copy = `local?root=${machine.dir}/copy`;
    const own = ['--store', copy, 'copy', '--from', url, '--to', copy, ...trust, app];
    await expect(machine.nix(...own)).rejects.toThrow('signature');
    await machine.nix(...own, '--refresh');
  });
});

describeWith(['nats-server'], 'the binary cache of dev services', () => {
  it('takes another port than a taken 8080, but not than the wanted one', async () => {
    await using dir = await tempDir();
    // 8080 itself may be taken by somebody else here.
    const usual = await holdPort(8080).catch(() => undefined);
    await using _ = usual;
    const services = await start(dir.path, { cachePort: undefined });
    expect(services.cache?.url).not.toContain(':8080');
    await services[Symbol.asyncDispose]();

    await using holder = await holdPort();
    const { port } = holder;
    await expect(start(dir.path, { cachePort: port })).rejects.toMatchObject({
      code: 'DEVENV_PORT_TAKEN',
      message: expect.stringMatching(`Cannot listen on port ${port}: it is taken by .* \\(pid ${process.pid}\\)`),
    });
    // Nothing was left running that would hold the folder.
    await using again = await start(dir.path, { cache: false });
    expect(again.cache).toBeUndefined();
  });

  it.each([
    ['secret-key', 'no key', /^Cannot use the key of the cache in ".*secret-key": /],
    ['token', 'short', /^Cannot use the token of the cache in ".*token": it needs 16 characters, no spaces$/],
  ])('does not start with a damaged %s, and leaves it as it is', async (name, content, message) => {
    await using dir = await tempDir();
    const file = join(dir.path, 'cache', name);
    await mkdir(dirname(file));
    await writeFile(file, content);
    await expect(start(dir.path)).rejects.toMatchObject({
      code: 'DEVENV_CACHE_INVALID',
      message: expect.stringMatching(message),
      hint: expect.stringContaining(`rm ${file}`),
    });
    expect(await readFile(file, 'utf8')).toBe(content);
  });
});
