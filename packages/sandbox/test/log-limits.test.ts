import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { BUSYBOX, printed, testBed, TOOLS } from './bed.ts';

const b = `${BUSYBOX} `;
const FLOOD = `exec ${b}yes 0123456789012345678901234567890123456789012345678901234567890`;

/** Bytes that the files of a stream take now. */
function bytesOnDisk(folder: string): number {
  const names = readdirSync(folder).filter((name) => /^stdout\.\d+$/.test(name));
  return names.reduce((sum, name) => sum + (statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0), 0);
}

/** Bytes that a stream has had. */
function bytesSoFar(folder: string): number {
  const starts = readdirSync(folder).flatMap((name) => /^stdout\.(\d+)$/.exec(name)?.[1] ?? []);
  const last = Math.max(...starts.map(Number));
  return last + (statSync(join(folder, `stdout.${last}`), { throwIfNoEntry: false })?.size ?? 0);
}

describeWith(TOOLS, 'limits of logs', () => {
  it('keeps a log flood to its rate and its disk, and other sandboxes unharmed', async () => {
    const [rate, logBytes] = [1_000_000, 1 << 20];
    await using bed = await testBed({ logBytes });
    const flood = await bed.start(FLOOD, { resources: { logRate: rate } });
    const folder = join(bed.stateDir, flood.id);
    const begin = performance.now();
    await waitFor('the first segments to be dropped', () => !readdirSync(folder).includes('stdout.0'));
    const other = await bed.start('echo unharmed; exit 4');
    await printed(other, 'unharmed');
    expect((await other.exited).code).toBe(4);
    const seconds = (performance.now() - begin) / 1000;
    // A burst of one second, and what one copy takes at once.
    expect(bytesSoFar(folder)).toBeLessThan(rate * (seconds + 1) + logBytes / 4);
    expect(bytesOnDisk(folder)).toBeLessThanOrEqual(logBytes * 1.01);
    expect((await flood.stop()).code).toBeGreaterThan(128);
    expect(bytesOnDisk(folder)).toBeLessThanOrEqual(logBytes * 1.01);
  });

  it('tells a late reader how much is gone, and gives the rest in order', async () => {
    await using bed = await testBed({ logBytes: 64 << 10 });
    const count = 20_000;
    const { sandbox } = await bed.run(`exec ${b}seq 1 ${count}`);
    const entries = await Array.fromAsync(sandbox.logs());
    const [gap, ...rest] = entries;
    expect(gap?.lost).toBeGreaterThan(0);
    expect(gap?.position.stdout).toBe(gap?.lost);
    expect(rest.every(({ lost }) => lost === undefined)).toBe(true);
    const numbers = rest.slice(1).map(({ line }) => Number(Buffer.from(line).toString()));
    expect(numbers).toEqual(Array.from(numbers, (_, index) => count - numbers.length + 1 + index));
    const bytes = Array.from({ length: count }, (_, index) => String(index + 1).length + 1).reduce((a, c) => a + c);
    expect(entries.at(-1)?.position.stdout).toBe(bytes);
  });

  it('waits for a reader that gets on', async () => {
    await using bed = await testBed({ logBytes: 64 << 10 });
    const count = 20_000;
    const sandbox = await bed.runtime.create(bed.spec(`echo ready; ${b}sleep 0.3; exec ${b}seq 1 ${count}`));
    const reading = Array.fromAsync(sandbox.logs(undefined, { follow: true }));
    await sandbox.start();
    const entries = await reading;
    expect(entries.filter(({ lost }) => lost !== undefined)).toEqual([]);
    const lines = entries.map(({ line }) => Buffer.from(line).toString());
    expect(lines).toEqual(['ready', ...Array.from({ length: count }, (_, index) => String(index + 1))]);
  });
});

describeWith(TOOLS, 'spare supervisors', () => {
  const spares = () =>
    readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => {
        try {
          return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[1] === String(process.pid);
        } catch {
          return false;
        }
      });

  it('go with their runtime, and one that was killed is not used', async () => {
    const before = spares();
    {
      await using bed = await testBed();
      await bed.run('');
      const spare = await waitFor('a spare', () => spares().find((pid) => !before.includes(pid)));
      process.kill(Number(spare), 'SIGKILL');
      expect((await bed.run('exit 3')).exit.code).toBe(3);
    }
    expect(spares().filter((pid) => !before.includes(pid))).toEqual([]);
  });
});
