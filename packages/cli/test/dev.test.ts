import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DevStatus } from '@nex-nix/devenv';
import { describeEachNix, describeWith, startProcess, tempDir, waitFor } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { NEX, nexCommand, startNex, runNex } from '../../../test/e2e/nex.ts';
import { addPaths, type NixMachine, nixMachine } from '../../cache/test/http-fixture.ts';
import { expectFailure } from './bed.ts';

vi.setConfig({ testTimeout: 120_000 });

const FREE = ['--port', '0', '--monitor-port', '0', '--cache-port', '0'];
/** Where only the commands matter, not the cache. */
const SMALL = ['--port', '0', '--monitor-port', '0', '--no-cache'];

describeEachNix('nex dev', (nix) => {
  it('prints commands of Nix that work as they are', async () => {
    await using machine = await nixMachine(nix, { token: 'of-no-use-anywhere' });
    const { app } = await addPaths(machine);
    await using dev = startNex(['dev', '--data-dir', `${machine.dir}/data`, ...FREE]);
    await waitFor('the services', () => dev.stderr().includes('Ctrl-C stops it'), { timeout: 60_000 });
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
  it('--json prints an object a line: the log, and once what is ready', async () => {
    await using folder = await tempDir('nex-cli-');
    await using dev = startNex(['--json', 'dev', '--data-dir', folder.path, ...SMALL]);
    const found = await waitFor('the status', () => objects(dev.stdout()).find((object) => 'services' in object), {
      timeout: 60_000,
    });
    expect(found).toMatchObject({
      dataDir: folder.path,
      services: [
        { name: 'nats', state: 'ready', restarts: 0, url: expect.stringMatching(/^nats:/) as string },
        { name: 'accounts', state: 'done' },
      ],
      environment: { NSC_HOME: `${folder.path}/nsc` },
    });
    dev.kill('SIGTERM');
    expect(await dev.exited).toMatchObject({ code: 0 });
    expect(dev.stderr()).toBe('');
    const texts = objects(dev.stdout()).map(({ service, text }) => `${String(service)} ${String(text)}`);
    // From the first line to the last.
    expect(texts[0]).toContain('nats ');
    expect(texts.at(-1)).toBe('nats stopped');
  });

  it.each([[[]], [['-d']]])(
    'up %j names who has the port that was asked for, and leaves nothing running',
    async (mode) => {
      await using folder = await tempDir('nex-cli-');
      const holder = createServer().listen(0, '127.0.0.1');
      await once(holder, 'listening');
      const { port } = holder.address() as AddressInfo;
      const run = await runNex([
        'dev',
        'up',
        ...mode,
        '--data-dir',
        folder.path,
        '--port',
        '0',
        '--cache-port',
        String(port),
      ]);
      holder.close();
      expectFailure(run, 1, new RegExp(`error: Cannot listen on port ${port}: .*pid ${process.pid}.*\\nhint: `));
      await expectNothingLeft(folder.path);
    },
  );

  it('up -d shows the last lines of what did not start, and leaves nothing running', async () => {
    await using folder = await tempDir('nex-cli-');
    const run = await runNex(['dev', 'up', '-d', '--data-dir', folder.path, ...SMALL, '--node', '--', '--bogus']);
    expectFailure(run, 1, /node +│ .*'--bogus'[\s\S]*error: Cannot start the node: .*'--bogus'/);
    await expectNothingLeft(folder.path);
  });

  it('in the background is seen and ended by the other commands, wherever its data is', async () => {
    await using folder = await tempDir('nex-cli-');
    const target = ['--data-dir', join(folder.path, `it's a "folder"`)];
    const dev = (...args: string[]) => runNex(['dev', ...args, ...target]);
    await using _down = { [Symbol.asyncDispose]: async () => void (await dev('down')) };

    const up = await dev('up', '-d', ...SMALL);
    expect(up, up.stderr).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^NATS server ready at nats:/) as string,
    });
    const status = await statusOf(target);
    expect(status.services.map(({ name, state }) => [name, state])).toEqual([
      ['nats', 'ready'],
      ['accounts', 'done'],
    ]);

    const again = await dev('up', '-d');
    expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining(`process ${status.pid}`) as string });
    expectFailure(await dev('up'), 4, /process \d+ runs them\nhint: .*nex dev down/);
    expectFailure(await dev('init', '--yes'), 4, /run/);

    expect(await evalEnv(target, `"$1" "$2" --json --context ExpAdmin node list`)).toMatchObject({ code: 0 });
    expect((await evalEnv(target, 'printf %s "$NSC_HOME"')).stdout).toBe(status.environment['NSC_HOME']);
    expect(JSON.parse((await dev('env', '--json')).stdout)).toEqual(status.environment);

    expect(await dev('restart', 'nats')).toMatchObject({ code: 0 });
    const restarted = await statusOf(target);
    expect(restarted.services[0]?.pid).not.toBe(status.services[0]?.pid);
    expectFailure(await dev('restart', 'cache'), 3, /"cache".*nats, accounts/);

    await using logs = startNex(['dev', 'logs', '-f', 'nats', ...target]);
    await waitFor('the log', () => logs.stdout().includes('Server is ready'));
    expect(await dev('down')).toMatchObject({ code: 0, stdout: expect.stringContaining('accounts, nats') as string });
    expect(await logs.exited).toMatchObject({ code: 0 });
    expect(logs.stdout()).not.toMatch(/^\S+ accounts/m);
    await expectNothingLeft(folder.path);

    expect(await dev('status')).toMatchObject({ code: 3 });
    expect(await dev('down')).toMatchObject({ code: 0 });
    expect((await dev('logs', '--tail', '1')).stdout).toMatch(/^\S+ nats +│ stopped\n$/);
    expect(JSON.parse((await dev('env', '--json')).stdout)).toMatchObject({ NSC_HOME: status.environment['NSC_HOME'] });
  });

  it('init shows what goes, does nothing that nobody has agreed to, and makes new keys', async () => {
    await using folder = await tempDir('nex-cli-');
    const target = ['--data-dir', folder.path];
    await writeFile(join(folder.path, 'mine.txt'), 'stays');
    expect(await runNex(['dev', 'init', ...target])).toMatchObject({ code: 0 });
    const before = await keysOf(target);
    expect(before).toMatch(/^A/);
    const refused = await runNex(['dev', 'init', ...target]);
    expectFailure(refused, 4, new RegExp(`${folder.path}/nsc\n(.|\n)*error: .*nobody can be asked\nhint: +.*--yes`));
    expect(refused.stderr).not.toContain('mine.txt');
    expect(await keysOf(target)).toBe(before);
    expect(await runNex(['dev', 'init', '--yes', ...target])).toMatchObject({ code: 0 });
    expect(await keysOf(target)).toMatch(/^A/);
    expect(await keysOf(target)).not.toBe(before);
    expect(await readFile(join(folder.path, 'mine.txt'), 'utf8')).toBe('stays');
  });

  it('stops everything in order when nobody reads on', async () => {
    await using folder = await tempDir('nex-cli-');
    const { command, env } = nexCommand(['dev', '--data-dir', folder.path, ...SMALL]);
    const script = '{ "$@"; echo "code $?" >&2; } | head -1';
    await using dev = startProcess('sh', ['-c', script, 'sh', ...command], { env });
    expect(await dev.exited).toMatchObject({ code: 0 });
    expect(dev.stderr()).toContain('code 141');
    const { stdout } = await runNex(['dev', 'logs', '--tail', '1', '--data-dir', folder.path]);
    expect(stdout).toMatch(/nats +│ (?:stopped|.*Exiting)/);
    await expectNothingLeft(folder.path);
  });

  it.each(['--port', '--monitor-port', '--cache-port'])('%s takes ports only', async (option) => {
    for (const text of ['70000', 'http']) {
      expectFailure(await runNex(['dev', `${option}=${text}`]), 2, new RegExp(`Cannot take "${text}" for a port`));
    }
  });

  it.each([
    [['statsu'], /"statsu": it is no command of nex dev\nhint: +nex dev --help/],
    [['--', '--tags', 'a=b'], /"--tags" .* no node is to run\nhint: +nex dev --node -- --tags a=b/],
    [['logs', 'nast'], /"nast" for a service: write nats, accounts, cache, node/],
  ])('%j is a mistake that it explains', async (words, pattern) => {
    expectFailure(await runNex(['dev', ...words]), 2, pattern);
  });
});

async function statusOf(target: readonly string[]): Promise<DevStatus> {
  const { stdout, code } = await runNex(['dev', 'status', '--json', ...target]);
  expect(code, stdout).toBe(0);
  return JSON.parse(stdout) as DevStatus;
}

/** Public key of the account. */
async function keysOf(target: readonly string[]): Promise<string> {
  const { stdout } = await runNex(['dev', 'env', '--json', ...target]);
  return (JSON.parse(stdout) as Record<string, string>)['NEX_ISSUER_ROOT_ACCOUNT'] ?? '';
}

/** Runs a command of a shell that has the variables; `"$1" "$2"` is nex. */
async function evalEnv(target: readonly string[], command: string): Promise<{ code: number | null; stdout: string }> {
  const { env } = nexCommand([]);
  const script = `eval "$("$1" "$2" dev env "$3" "$4")" && ${command}`;
  await using shell = startProcess('sh', ['-c', script, 'sh', process.execPath, NEX, ...target], { env });
  const { code } = await shell.exited;
  return { code, stdout: shell.stdout() };
}

function objects(text: string): Record<string, unknown>[] {
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

async function expectNothingLeft(folder: string): Promise<void> {
  await using left = startProcess('pgrep', ['-f', folder]);
  expect(await left.exited, left.stdout()).toMatchObject({ code: 1 });
}
