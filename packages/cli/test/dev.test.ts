import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { describeEachNix, describeWith, startProcess, tempDir, waitFor } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { startNex, runNex } from '../../../test/e2e/nex.ts';
import { addPaths, type NixMachine, nixMachine } from '../../cache/test/http-fixture.ts';
import { expectFailure } from './bed.ts';

vi.setConfig({ testTimeout: 60_000 });

const FREE = ['--port', '0', '--cache-port', '0'];

describeEachNix('nex dev', (nix) => {
  it('prints commands of Nix that work as they are', async () => {
    await using machine = await nixMachine(nix, { token: 'of-no-use-anywhere' });
    const { app } = await addPaths(machine);
    await using dev = startNex(['dev', '--data-dir', `${machine.dir}/data`, ...FREE]);
    await waitFor('the services', () => dev.stderr().includes('Ctrl-C stops it'), { timeout: 20_000 });
    const [copyIn = '', copyOut = ''] = dev.stderr().match(/nix copy .*/g) ?? [];
    // The store of this machine stays out of it: the commands act on stores of the test's own. They are two, since who wrote a
    // narinfo remembers it as it was, without the cache's signature.
    const run = async ({ store, run }: NixMachine, command: string) => {
      const text = command.replace(/ PATH$/, ` ${app}`).replace(/^nix /, `nix --store "${store}" `);
      await run('sh', '-c', text.replace(/(?=--from)/, `--to "${store}" `));
    };
    await run(machine, copyIn);
    await using reader = await nixMachine(nix);
    await run(reader, copyOut);
    await reader.nix('--store', reader.store, 'store', 'verify', '--no-trust', '-r', app);
    dev.kill('SIGINT');
    expect(await dev.exited).toMatchObject({ code: 0 });
  });
});

describeWith(['nats-server'], 'nex dev', () => {
  it('--json prints where everything is, --no-cache leaves the cache out', async () => {
    await using folder = await tempDir('nex-cli-');
    for (const [args, cache] of [
      [FREE, { url: expect.any(String), netrcFile: `${folder.path}/cache/netrc` }],
      [['--port', '0', '--no-cache'], undefined],
    ] as const) {
      await using dev = startNex(['--json', 'dev', '--data-dir', folder.path, ...args]);
      const value = await waitFor('the services', () => /^\{.*^\}$/ms.exec(dev.stdout())?.[0], { timeout: 20_000 });
      const found = JSON.parse(value) as { cache?: object };
      expect(found).toMatchObject({ url: expect.stringMatching(/^nats:/) as string, configDir: folder.path });
      if (cache === undefined) expect(found).not.toHaveProperty('cache');
      else expect(found.cache).toMatchObject(cache);
      dev.kill('SIGTERM');
      expect(await dev.exited).toMatchObject({ code: 0 });
      expect(dev.stderr()).toBe('');
    }
  });

  it('names who has the port that was asked for, and leaves nothing running', async () => {
    await using folder = await tempDir('nex-cli-');
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const { port } = holder.address() as AddressInfo;
    const run = await runNex(['dev', '--data-dir', folder.path, '--port', '0', '--cache-port', String(port)]);
    holder.close();
    expectFailure(run, 1, new RegExp(`error: Cannot listen on port ${port}: .*pid ${process.pid}.*\\nhint: `));
    await using left = startProcess('pgrep', ['-f', folder.path]);
    expect(await left.exited).toMatchObject({ code: 1 });
  });

  it.each(['--port', '--cache-port'])('%s takes ports only', async (option) => {
    for (const text of ['70000', '-1', 'http']) {
      expectFailure(await runNex(['dev', `${option}=${text}`]), 2, new RegExp(`Cannot take "${text}" for a port`));
    }
  });
});
