import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { OUTPUT_WINDOW } from '@nex-nix/guest';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { output, printed } from './bed.ts';
import { microvmBed, TIMEOUT, TOOLS } from './microvm-bed.ts';

vi.setConfig({ testTimeout: TIMEOUT, hookTimeout: TIMEOUT });

const LOG_BYTES = 1 << 20;

/** Bytes that a stream has had. */
function bytesSoFar(folder: string): number {
  const starts = readdirSync(folder).flatMap((name) => /^stdout\.(\d+)$/.exec(name)?.[1] ?? []);
  const last = Math.max(...starts.map(Number));
  return last + (statSync(join(folder, `stdout.${last}`), { throwIfNoEntry: false })?.size ?? 0);
}

/** Bytes that the files of a stream take now. */
function bytesOnDisk(folder: string): number {
  const names = readdirSync(folder).filter((name) => /^stdout\.\d+$/.test(name));
  return names.reduce((sum, name) => sum + (statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0), 0);
}

describeWith(TOOLS, 'logs of a microvm sandbox', () => {
  let bed: Awaited<ReturnType<typeof microvmBed>>;
  beforeAll(async () => (bed = await microvmBed({ logBytes: LOG_BYTES, poolSize: 0 })));
  afterAll(() => bed[Symbol.asyncDispose]());

  it('loses nothing of 5 MB to a follower, keeps the order and the size on disk', async () => {
    const sandbox = await bed.runtime.create(
      bed.spec(`awk 'BEGIN { for (i = 1; i <= 50000; i++) printf "%d %0100d\\n", i, i }'; printf 'last' >&2`),
    );
    await sandbox.start();
    let expected = 0;
    const rest: string[] = [];
    for await (const { stream, line, lost } of sandbox.logs(undefined, { follow: true })) {
      expect(lost).toBeUndefined();
      const text = Buffer.from(line).toString();
      if (stream === 'stderr') rest.push(text);
      else if (text !== `${++expected} ${String(expected).padStart(100, '0')}`) {
        throw new Error(`line ${expected} is "${text}"`);
      }
    }
    expect([expected, rest]).toEqual([50_000, ['last']]);
    expect(bytesOnDisk(join(bed.stateDir, sandbox.id))).toBeLessThanOrEqual(LOG_BYTES);
    await sandbox.remove();
  });

  it('goes on from a position, while the program runs and after it', async () => {
    const sandbox = await bed.start('echo one; echo two; sleep 100; echo three');
    await printed(sandbox, 'two');
    const [first] = await Array.fromAsync(sandbox.logs());
    const following = Array.fromAsync(sandbox.logs(first?.position, { follow: true }));
    await sandbox.stop({ graceMs: 0 });
    const rest = await Array.fromAsync(sandbox.logs(first?.position));
    for (const entries of [rest, await following]) {
      expect(entries.map(({ line }) => Buffer.from(line).toString())).toEqual(['two']);
    }
    await sandbox.remove();
  });

  it('slows a program down that prints faster than it may, by making it wait', async () => {
    const rate = 200_000;
    const began = performance.now();
    const sandbox = await bed.start('yes 0123456789012345678901234567890123456789', { resources: { logRate: rate } });
    const folder = join(bed.stateDir, sandbox.id);
    // What the guest keeps comes at once, and what a second may have.
    const atOnce = OUTPUT_WINDOW + rate;
    await waitFor('more than comes at once', () => bytesSoFar(folder) > atOnce + rate, { timeout: 60_000 });
    const bytes = bytesSoFar(folder);
    expect(bytes).toBeLessThan(atOnce + (rate * (performance.now() - began)) / 1000);
    await sandbox.stop({ graceMs: 0 });
    await sandbox.remove();
  });

  it('ends following when the object is disposed, and leaves the program running', async () => {
    const sandbox = await bed.start('echo ready; sleep 100');
    const following = Array.fromAsync(sandbox.logs(undefined, { follow: true }));
    const exited = expect(sandbox.exited).rejects.toMatchObject({ code: 'SANDBOX_RELEASED' });
    await printed(sandbox, 'ready');
    await sandbox[Symbol.asyncDispose]();
    expect((await following).map(({ line }) => Buffer.from(line).toString())).toEqual(['ready']);
    await exited;
    const again = await bed.runtime.adopt(sandbox.record);
    expect(await bed.runtime.adopt(sandbox.record)).toBe(again);
    expect((await again?.stop({ graceMs: 0 }))?.code).toBe(137);
    expect(again && (await output(again)).stdout).toBe('ready\n');
    await again?.remove();
  });
});
