import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DevStatus } from '@nex-nix/devenv';
import { describeWith, startProcess, tempDir, waitFor } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { runNex } from '../../../test/e2e/nex.ts';
import { nexInTerminal, type Terminal } from './terminal.ts';

vi.setConfig({ testTimeout: 120_000 });

const SMALL = ['--port', '0', '--monitor-port', '0', '--no-cache'];

describeWith(['nats-server', 'crun', 'script', 'stty'], 'nex dev on a terminal', () => {
  it('shows its services, starts a nats-server again that was killed, quits clean, and takes its data up again', async () => {
    await using folder = await tempDir('nex-cli-');
    const target = ['--data-dir', folder.path];
    await using terminal = await nexInTerminal(['dev', ...target, ...SMALL, '--node'], { columns: 120 });
    await shows(terminal, /3 of 3 ready/);
    expect(terminal.page()?.slice(2, 5)).toEqual([
      expect.stringMatching(/^▸ 1 nats +ready +\d+ +nats:\/\/127\.0\.0\.1:\d+ +0 /),
      expect.stringMatching(/^ {2}2 accounts +done /),
      expect.stringMatching(/^ {2}3 node +ready +\d+ /),
    ]);
    const before = await statusOf(target);

    process.kill(before.services[0]?.pid ?? 0, 'SIGKILL');
    await shows(terminal, /nats +ready +\d+ +\S+ +1 /);
    await shows(terminal, /3 of 3 ready/);
    const after = await statusOf(target);
    expect(after.services[0]).toMatchObject({ url: before.services[0]?.url });
    expect(after.services[0]?.pid).not.toBe(before.services[0]?.pid);
    // The node is the same one, and serves again.
    expect(after.services[2]).toMatchObject({ pid: before.services[2]?.pid, restarts: 0 });
    await waitFor('the node on the new server', () => nodesOf(folder.path).then((nodes) => nodes.length === 1));

    terminal.type('q');
    await shows(terminal, /Stopping … waiting for/);
    expect(await terminal.exited).toBe(0);
    expect(terminal.page()).toBeUndefined();
    expect(terminal.normal()).toMatch(/nats +stopped, was restarted 1 time\r?\n/);
    await expectNothingLeft(folder.path);

    await using second = await nexInTerminal(['dev', ...target, ...SMALL]);
    await shows(second, /2 of 2 ready/);
    expect((await statusOf(target)).environment).toEqual(before.environment);
    // The window is closed: nobody can quit any more.
    second.close();
    await waitFor('everything to end', async () => (await runNex(['dev', 'status', ...target])).code === 3);
    expect(await readFile(join(folder.path, 'logs/dev.log'), 'utf8')).toMatch(
      /"nats","source":"supervisor","text":"stopped"}\n$/,
    );
    await waitFor('all processes to end', () => isNothingLeft(folder.path));
  });

  it('leaves the reason on the normal screen when a service does not start', async () => {
    await using folder = await tempDir('nex-cli-');
    const args = ['dev', '--data-dir', folder.path, ...SMALL, '--node', '--', '--bogus'];
    await using terminal = await nexInTerminal(args, { env: { NO_COLOR: '1' } });
    expect(await terminal.exited).toBe(1);
    expect(terminal.raw()).toContain('\u001B[?1049h');
    expect(terminal.normal()).toMatch(/node +│ .*'--bogus'[\s\S]*error: Cannot start the node: .*'--bogus'/);
    await expectNothingLeft(folder.path);
  });

  it.each([
    [['--no-view'], {}],
    [[], { TERM: 'dumb' }],
  ])('with %j and %j prints lines, and Ctrl-C ends it, however often it is pressed', async (options, env) => {
    await using folder = await tempDir('nex-cli-');
    const args = ['dev', '--data-dir', folder.path, ...SMALL, ...options];
    await using terminal = await nexInTerminal(args, { env });
    await waitFor('the services', () => terminal.normal().includes('Ctrl-C stops it'), { timeout: 60_000 });
    terminal.type('\u0003');
    await waitFor('the first to arrive', () => terminal.normal().includes('Stopping …'));
    terminal.type('\u0003');
    // The second may come when all is done but the very end of the process, which it then is.
    expect([0, 130]).toContain(await terminal.exited);
    expect(terminal.raw()).not.toContain('\u001B[?1049h');
    expect(terminal.normal()).toMatch(/^\S+ nats +│ stopped\r?$/m);
    await expectNothingLeft(folder.path);
  });
});

describeWith(['script', 'stty'], 'nex dev init on a terminal', () => {
  it('asks, and does what the answer is', async () => {
    await using folder = await tempDir('nex-cli-');
    const init = ['dev', 'init', '--data-dir', folder.path];
    const answered = async (answer: string): Promise<[number | null, string]> => {
      await using terminal = await nexInTerminal(init);
      await waitFor('the question', () => terminal.normal().includes('[y/N]'), { timeout: 60_000 });
      terminal.type(`${answer}\r`);
      return [await terminal.exited, terminal.normal()];
    };
    expect(await runNex(init)).toMatchObject({ code: 0 });
    const operatorKeys = async () => (await readdir(join(folder.path, 'nsc/keys/O'), { recursive: true })).toSorted();
    const keys = await operatorKeys();
    expect(await answered('')).toEqual([130, expect.stringContaining('Nothing was removed') as string]);
    expect(await operatorKeys()).toEqual(keys);
    expect(await answered('yes')).toEqual([0, expect.stringContaining('Made anew') as string]);
    expect(await operatorKeys()).not.toEqual(keys);
  });
});

async function shows(terminal: Terminal, pattern: RegExp): Promise<void> {
  const page = (): string => terminal.page()?.join('\n') ?? '';
  try {
    await waitFor(`${pattern} on the page`, () => pattern.test(page()), { timeout: 60_000 });
  } catch (error) {
    throw new Error(`${(error as Error).message}; it shows:\n${page()}\n${terminal.normal()}`, { cause: error });
  }
}

async function statusOf(target: readonly string[]): Promise<DevStatus> {
  const { stdout } = await runNex(['dev', 'status', '--json', ...target]);
  return JSON.parse(stdout) as DevStatus;
}

async function nodesOf(folder: string): Promise<unknown[]> {
  const { stdout, code } = await runNex(['--json', '--context', 'ExpAdmin', 'node', 'list'], {
    XDG_CONFIG_HOME: folder,
  });
  return code === 0 ? (JSON.parse(stdout) as unknown[]) : [];
}

async function isNothingLeft(folder: string): Promise<boolean> {
  await using left = startProcess('pgrep', ['-f', folder]);
  return (await left.exited).code === 1;
}

async function expectNothingLeft(folder: string): Promise<void> {
  await using left = startProcess('pgrep', ['-af', folder]);
  expect(await left.exited, left.stdout()).toMatchObject({ code: 1 });
}
