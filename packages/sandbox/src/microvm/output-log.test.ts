import { readdir } from 'node:fs/promises';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { readLogs } from '../logs/log-reader.ts';
import { Pulse } from '../pulse.ts';
import { OutputLog } from './output-log.ts';

const START = { stdout: 0, stderr: 0 };

function reader(folder: string, options: { follow?: boolean; ended?: () => boolean; pulse?: Pulse } = {}) {
  const { follow = false, ended = () => true, pulse = new Pulse() } = options;
  return readLogs({ folder, ended, released: () => false, changed: () => pulse.next() }, START, { follow });
}

describe('OutputLog', () => {
  it('keeps a quarter of the allowed bytes in each segment, the last four of them', async () => {
    await using dir = await tempDir();
    await using log = await OutputLog.open(dir.path, 400);
    const text = Buffer.from(Array.from({ length: 90 }, (_, index) => `line ${index}\n`).join(''));
    await log.write('stdout', 0, text.subarray(0, 250));
    await log.write('stdout', 250, text.subarray(250));
    expect(log.positions).toEqual({ stdout: text.length, stderr: 0 });
    expect((await readdir(dir.path)).sort()).toEqual([
      'stderr.0',
      'stdout.400',
      'stdout.500',
      'stdout.600',
      'stdout.700',
    ]);
    const entries = await Array.fromAsync(reader(dir.path));
    expect(entries[0]?.lost).toBe(400);
    expect(entries.at(-1)?.position.stdout).toBe(text.length);
    expect(Buffer.from(entries.at(-1)?.line ?? []).toString()).toBe('line 89');
  });

  it('goes on where the files end, and takes no byte twice', async () => {
    await using dir = await tempDir();
    {
      await using log = await OutputLog.open(dir.path, 40);
      await log.write('stderr', 0, Buffer.from('0123456789abcde'));
    }
    await using log = await OutputLog.open(dir.path, 40);
    expect(log.positions).toEqual({ stdout: 0, stderr: 15 });
    await log.write('stderr', 10, Buffer.from('abcdefgh\n'));
    expect(log.positions.stderr).toBe(19);
    const entries = await Array.fromAsync(reader(dir.path));
    expect(entries.map(({ line }) => Buffer.from(line).toString())).toEqual(['0123456789abcdefgh']);
    await expect(log.write('stderr', 20, Buffer.from('x'))).rejects.toThrow('Bytes 19 to 20 of stderr are missing');
  });

  it('waits for a reader that gets on before it drops anything', async () => {
    await using dir = await tempDir();
    await using log = await OutputLog.open(dir.path, 4000);
    const pulse = new Pulse();
    let ended = false;
    const reading = Array.fromAsync(reader(dir.path, { follow: true, ended: () => ended, pulse }));
    for (let line = 0; line < 3000; line++) {
      await log.write('stdout', line * 6, Buffer.from(`${String(line).padStart(5, '0')}\n`));
      pulse.fire();
    }
    ended = true;
    pulse.fire();
    const entries = await reading;
    expect(entries.filter(({ lost }) => lost !== undefined)).toEqual([]);
    expect(entries).toHaveLength(3000);
  });
});
