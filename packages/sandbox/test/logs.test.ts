import { describeWith } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { BUSYBOX, output, printed, testBed, TOOLS } from './bed.ts';

const b = `${BUSYBOX} `;

describeWith(TOOLS, 'logs of an oci sandbox', () => {
  it('loses nothing of 10 MB, and keeps the order', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(
      `exec ${b}awk 'BEGIN { for (i = 1; i <= 100000; i++) printf "%d %0100d\\n", i, i }'`,
    );
    let expected = 0;
    let bytes = 0;
    for await (const { stream, line } of sandbox.logs(undefined, { follow: true })) {
      expected++;
      bytes += line.length + 1;
      const text = Buffer.from(line).toString();
      if (stream !== 'stdout' || text !== `${expected} ${String(expected).padStart(100, '0')}`) {
        throw new Error(`line ${expected} of ${stream} is "${text}"`);
      }
    }
    expect(expected).toBe(100_000);
    expect(bytes).toBeGreaterThan(10_000_000);
  });

  it('tells the streams apart and gives the last line without its newline', async () => {
    await using bed = await testBed();
    const { sandbox } = await bed.run(`echo out; echo err >&2; printf last`);
    expect(await output(sandbox)).toEqual({ stdout: 'out\nlast\n', stderr: 'err\n' });
  });

  it('goes on from a position, while the program runs and after it', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`echo one; echo two; ${b}sleep 100; echo three`);
    await printed(sandbox, 'two');
    const [first] = await Array.fromAsync(sandbox.logs());
    await sandbox.stop({ graceMs: 0 });
    const rest = await Array.fromAsync(sandbox.logs(first?.position));
    expect(rest.map(({ line }) => Buffer.from(line).toString())).toEqual(['two']);
  });

  it('stops following when it is told to', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`${b}sleep 100`);
    const controller = new AbortController();
    const following = Array.fromAsync(sandbox.logs(undefined, { follow: true, signal: controller.signal }));
    controller.abort(new Error('enough'));
    await expect(following).rejects.toThrow('enough');
  });

  it('ends following when the object is disposed', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`${b}sleep 100`);
    const following = Array.fromAsync(sandbox.logs(undefined, { follow: true }));
    await sandbox[Symbol.asyncDispose]();
    expect(await following).toEqual([]);
  });
});
