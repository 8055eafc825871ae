import { join } from 'node:path';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { inTerminal, type Terminal } from './terminal.ts';

const FIXTURE = join(import.meta.dirname, 'view-fixture.ts');

const view = (size: { columns?: number; rows?: number } = {}): Promise<Terminal> =>
  inTerminal([process.execPath, '--conditions=nexsrc', FIXTURE], { env: process.env, ...size });

const shows = (terminal: Terminal, pattern: RegExp): Promise<unknown> =>
  waitFor(`${pattern} on the page`, () => pattern.test(terminal.page()?.join('\n') ?? ''));

/** In the settings of stty: lines and echo as a shell wants them. */
const COOKED = /(?<!-)icanon.*(?<!-)echo /s;

describeWith(['script', 'stty'], 'the view of dev services', () => {
  it('shows services, acts on keys, follows the size of the terminal, and gives the terminal back', async () => {
    await using terminal = await view();
    await shows(terminal, /^▸ 1 nats +ready/m);
    expect(terminal.settings()).toContain('-icanon');
    terminal.type('\u001B[B');
    await shows(terminal, /^▸ 2 cache/m);
    terminal.type('1f');
    await shows(terminal, /── log of nats /);
    terminal.type('?');
    await shows(terminal, /stop all and quit/);
    terminal.type('i');
    await shows(terminal, /export A=1/);
    terminal.type('r');
    await shows(terminal, /nats does not start/);
    terminal.resize(30, 2);
    await waitFor('a page of two rows', () => terminal.page()?.length === 2);
    expect(terminal.page()?.every((line) => line.length <= 30)).toBe(true);
    terminal.type('q');
    expect(await terminal.exited).toBe(0);
    expect(terminal.page()).toBeUndefined();
    expect(terminal.raw()).toMatch(/\[\?7h.\[\?25h.\[\?1049l/s);
  });

  it('draws no more often than one can see, however much is printed', async () => {
    await using terminal = await view();
    await shows(terminal, /^▸ 1 nats/m);
    const before = terminal.raw().length;
    terminal.type('2r');
    await shows(terminal, /cache +│ line 20000$/m);
    // Every line drawn would be a hundred times that.
    expect(terminal.raw().length - before).toBeLessThan(1_000_000);
  });

  it.each([
    ['SIGTERM', (terminal: Terminal) => terminal.kill('SIGTERM'), 0],
    ['a crash', (terminal: Terminal) => terminal.type('3r'), 1],
  ])('gives the terminal back on %s', async (_what, end, code) => {
    await using terminal = await view();
    await shows(terminal, /^▸ 1 nats/m);
    end(terminal);
    expect(await terminal.exited).toBe(code);
    expect(terminal.normal()).toMatch(COOKED);
    expect(terminal.page()).toBeUndefined();
    // What it was is to be read afterwards, and not on a page that is gone.
    if (code === 1) expect(terminal.normal()).toContain('the view has crashed');
  });
});
