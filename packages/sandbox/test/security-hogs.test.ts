import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { Sandbox } from '@nex-nix/sandbox';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { BUSYBOX, printed, processesOf, testBed, TOOLS, usersOf } from './bed.ts';

const MIB = 1 << 20;
const b = `${BUSYBOX} `;

/** Does a little work on and on, and has its dead buried. */
const WORKING = `echo ready; while :; do ${b}sleep 0.02; done`;

type Bed = Awaited<ReturnType<typeof testBed>>;

/**
 * Runs something hostile beside a sandbox that does its work; expects that one to be well at any time, and this process
 * to stay responsive: within seconds, or on a slow machine within 25 times of what an answer takes when all is quiet.
 */
async function besideNeighbour(bed: Bed, hostile: () => Promise<void>): Promise<void> {
  const neighbour = await bed.start(WORKING, { resources: { memory: 32 * MIB, pids: 16 } });
  await printed(neighbour, 'ready');
  const begin = performance.now();
  await ask(neighbour, 60_000);
  const limitMs = Math.max(5_000, Math.ceil(25 * (performance.now() - begin)));
  const lag = monitorEventLoopDelay({ resolution: 5 });
  lag.enable();
  const asking = new AbortController();
  const answers = askOnAndOn(neighbour, { limitMs, signal: asking.signal });
  // What it rejects with is told once the hostile one is done.
  answers.catch(() => undefined);
  try {
    await hostile();
  } finally {
    asking.abort();
  }
  expect(await answers).toBeGreaterThan(0);
  lag.disable();
  expect(lag.max / 1e6).toBeLessThan(limitMs / 5);
  expect(await neighbour.stop({ graceMs: 0 })).toMatchObject({ signal: 'SIGKILL', outOfMemory: false });
}

/** Asks a neighbour until the signal; every question has to be answered in time, at least one of them is asked. */
async function askOnAndOn(
  neighbour: Sandbox,
  { limitMs, signal }: { limitMs: number; signal: AbortSignal },
): Promise<number> {
  let answered = 0;
  do {
    await ask(neighbour, limitMs);
    answered++;
    await delay(20);
  } while (!signal.aborted);
  return answered;
}

async function ask(neighbour: Sandbox, limitMs: number): Promise<void> {
  const command = await neighbour.exec({
    program: BUSYBOX,
    argv: ['echo', 'answer'],
    signal: AbortSignal.timeout(limitMs),
  });
  expect(command).toEqual({ code: 0, output: 'answer\n' });
}

describeWith(TOOLS, 'a program that takes all it can get', () => {
  it('forks without end, up to its limit', async () => {
    await using bed = await testBed();
    await besideNeighbour(bed, async () => {
      const fork = `${b}sleep 100 & (while :; do ${b}sleep 100 & done) 2>/dev/null; echo full; wait`;
      const bomb = await bed.start(fork, { resources: { pids: 20 } });
      // The loop ends with the first fork that fails.
      await printed(bomb, 'full');
      const { length } = usersOf(bomb.id);
      expect(length).toBeGreaterThan(10);
      // A program that forks in its very first moment gets some of the processes that were left to the OCI runtime.
      expect(length).toBeLessThanOrEqual(23);
      await bomb.stop({ graceMs: 0 });
      expect(processesOf(bomb.id)).toEqual([]);
    });
  });

  it('allocates without end, and is told apart from one that was killed', async () => {
    await using bed = await testBed();
    await besideNeighbour(bed, async () => {
      const { exit } = await bed.run(`a=x; while :; do a=$a$a; done`, { resources: { memory: 16 * MIB } });
      expect(exit).toEqual({ code: 137, signal: 'SIGKILL', outOfMemory: true });
    });
  });

  it.each(['/tmp', '/dev/shm'])('fills %s: that is memory, and there is no other place to fill', async (folder) => {
    await using bed = await testBed();
    await besideNeighbour(bed, async () => {
      const { exit } = await bed.run(`${b}dd if=/dev/zero of=${folder}/x bs=1M count=60; ${b}false`, {
        resources: { memory: 12 * MIB, tmp: 64 * MIB },
      });
      expect(exit).toMatchObject({ outOfMemory: true });
    });
  });

  it('has a child killed for want of memory, fails for that, and says so', async () => {
    await using bed = await testBed();
    const { exit, stdout } = await bed.run(`${b}sh -c 'a=x; while :; do a=$a$a; done' 2>/dev/null; echo $?; exit 3`, {
      resources: { memory: 16 * MIB },
    });
    expect(stdout).toBe('137\n');
    expect(exit).toEqual({ code: 3, outOfMemory: true });
  });

  it('spins on every processor, and leaves others their part', async () => {
    await using bed = await testBed();
    const spin = 'while :; do :; done';
    const one = await bed.start(spin);
    const many = await bed.start(`${`${spin} & `.repeat(7)} ${spin}`);
    const used = async () => Promise.all([one, many].map(async (sandbox) => (await sandbox.usage()).cpuMicros ?? 0));
    const before = await used();
    await waitFor(
      'a second of work',
      async () => (await used()).reduce((a, c) => a + c) - before.reduce((a, c) => a + c) > 1e6,
    );
    const [ofOne = 0, ofMany = 0] = (await used()).map((micros, index) => micros - (before[index] ?? 0));
    // By process it would be a ninth; by sandbox it is a half, where both have processors enough to ask for that.
    expect(ofOne / (ofOne + ofMany)).toBeGreaterThan(0.25);
  });
});
