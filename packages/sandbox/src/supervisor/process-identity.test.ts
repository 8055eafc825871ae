import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { executableOf, isAlive, parseIdentity, signalProcess } from './process-identity.ts';

async function own() {
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const identity = parseIdentity(`${boot} ${await readFile('/proc/self/stat', 'utf8')}`);
  if (identity === undefined) throw new Error('/proc/self/stat cannot be parsed');
  return identity;
}

describe('parseIdentity()', () => {
  it('reads a process whose name looks like the rest of the line', () => {
    const stat = `42 (a) R 1 (b) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 0 0`;
    expect(parseIdentity(`boot-id ${stat}`)).toEqual({ pid: 42, parent: 7, startTime: '98765', bootId: 'boot-id' });
  });

  it('reads nothing from a line that is cut off', () => {
    expect(parseIdentity('')).toBeUndefined();
    expect(parseIdentity('boot-id 42 (a) S 7')).toBeUndefined();
  });
});

describe('isAlive()', () => {
  it('knows this process from others of its number, and from one before the machine was started', async () => {
    const identity = await own();
    expect(identity).toMatchObject({ pid: process.pid, parent: process.ppid });
    expect(await isAlive(identity)).toBe(true);
    expect(await isAlive({ ...identity, startTime: '1' })).toBe(false);
    expect(await isAlive({ ...identity, bootId: 'other' })).toBe(false);
    expect(await isAlive({ ...identity, pid: 0x3fff_ffff })).toBe(false);
    expect(await signalProcess({ ...identity, startTime: '1' }, 'SIGKILL')).toBe(false);
  });

  it('names the file a process executes', async () => {
    expect(await executableOf(process.pid)).toMatch(/^\d+:\d+$/);
    expect(await executableOf(0x3fff_ffff)).toBeUndefined();
  });
});
