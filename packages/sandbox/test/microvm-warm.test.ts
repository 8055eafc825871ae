import { type Invocation, type WarmSandbox } from '@nex-nix/sandbox';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { printed, traces } from './bed.ts';
import { machineOf, machinesOf, microvmBed, TIMEOUT, TOOLS, vmmOf } from './microvm-bed.ts';

vi.setConfig({ testTimeout: TIMEOUT, hookTimeout: TIMEOUT });

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();

async function call(sandbox: WarmSandbox, change: Partial<Invocation> = {}) {
  const lines: string[] = [];
  const onStderr = (line: Uint8Array) => lines.push(text(line));
  const base = { stdin: Buffer.alloc(0), environment: {}, maxOutput: 2 ** 20, onStderr };
  return { ...(await sandbox.invoke({ ...base, ...change })), lines };
}

describeWith(TOOLS, 'machines that wait', () => {
  let bed: Awaited<ReturnType<typeof microvmBed>>;
  beforeAll(async () => (bed = await microvmBed()));
  afterAll(async () => {
    await bed[Symbol.asyncDispose]();
    expect(traces(bed.path)).toEqual([]);
  });

  it('differ from one another, although they come from one template: boot, random numbers, host name; and know the time', async () => {
    const script =
      'cat /proc/sys/kernel/random/boot_id; head -c 16 /dev/urandom | base64; cat /proc/sys/kernel/random/uuid; hostname; date +%s; echo over; sleep 100';
    const seen: string[][] = [];
    for (let run = 0; run < 2; run++) {
      const sandbox = await bed.start(script);
      await printed(sandbox, 'over');
      const lines = await Array.fromAsync(sandbox.logs());
      const words = lines.map(({ line }) => text(line));
      expect(words[3]).toBe(sandbox.id);
      expect(Math.abs(Number(words[4]) - Date.now() / 1000)).toBeLessThan(15);
      seen.push(words.slice(0, 4));
      await sandbox.stop({ graceMs: 0 });
      await sandbox.remove();
    }
    for (const [index, word] of (seen[0] ?? []).entries()) expect(word).not.toBe(seen[1]?.[index]);
    const origins = bed.events.flatMap((event) => (event.type === 'machine-started' ? [event.from] : []));
    expect(origins.filter((from) => from === 'template').length).toBeGreaterThanOrEqual(2);
  });

  it('are claimed warm, once each, and made again', async () => {
    await waitFor('the pool to be filled', () => bed.events.at(-1)?.type === 'pooled', { timeout: 60_000 });
    const sandbox = await bed.start('sleep 100');
    const machine = await machineOf(bed.stateDir, sandbox.id);
    const claim = bed.events.findLast(({ type }) => type === 'claimed');
    expect(claim).toEqual({ type: 'claimed', vmid: machine, sandbox: sandbox.id, warm: true });
    await waitFor('the next one', () => bed.events.at(-1)?.type === 'pooled', { timeout: 60_000 });
    expect(machinesOf(bed.stateDir)).toHaveLength(2);
    await sandbox.stop({ graceMs: 0 });
    await sandbox.remove();
    expect(machinesOf(bed.stateDir)).toHaveLength(1);
  });

  it('run a program with a payload and an environment that are known late', async () => {
    const spec = bed.spec('cat; echo $OWN $ADDED; echo failed >&2; exit 3', {
      environment: { PATH: '/bin', OWN: 'own' },
    });
    {
      await using sandbox = await bed.runtime.warm(spec);
      await expect(bed.runtime.warm(spec)).rejects.toMatchObject({ code: 'SANDBOX_ID_TAKEN' });
      const { exit, stdout, lines } = await call(sandbox, {
        stdin: Buffer.from('payload\n'),
        environment: { ADDED: 'late' },
      });
      expect({ exit, stdout: text(stdout), lines }).toEqual({
        exit: { code: 3, outOfMemory: false },
        stdout: 'payload\nown late\n',
        lines: ['failed'],
      });
      expect(await sandbox.exited).toEqual(exit);
      await expect(call(sandbox)).rejects.toMatchObject({ code: 'SANDBOX_ALREADY_STARTED' });
    }
    expect(await bed.runtime.list()).toEqual([]);
  });

  it('end when they print too much, take too long, or are killed before they are asked', async () => {
    {
      await using sandbox = await bed.runtime.warm(bed.spec('yes'));
      await expect(call(sandbox, { maxOutput: 10_000 })).rejects.toMatchObject({ code: 'SANDBOX_OUTPUT_TOO_LARGE' });
    }
    {
      await using sandbox = await bed.runtime.warm(bed.spec('echo begun >&2; sleep 100'));
      const controller = new AbortController();
      const onStderr = () => controller.abort(new Error('too long'));
      await expect(call(sandbox, { signal: controller.signal, onStderr })).rejects.toThrow('too long');
    }
    const spec = bed.spec('true');
    await using sandbox = await bed.runtime.warm(spec);
    process.kill(vmmOf(await machineOf(bed.stateDir, spec.id)), 'SIGKILL');
    expect((await sandbox.exited).reason).toContain('was killed');
    await expect(call(sandbox)).rejects.toMatchObject({ code: 'SANDBOX_START_FAILED' });
  });
});
