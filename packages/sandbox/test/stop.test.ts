import { describeWith } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { BUSYBOX, output, printed, testBed, TOOLS, traces } from './bed.ts';

const b = `${BUSYBOX} `;
const KILLED = { code: 137, signal: 'SIGKILL', outOfMemory: false };

/** Far longer than any of these tests takes. */
const GRACE = 60_000;

describeWith(TOOLS, 'stop of an oci sandbox', () => {
  it('ends a first process without a handler at once', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start('', { argv: ['sleep', '1000'] });
    expect(await sandbox.stop({ graceMs: GRACE })).toEqual(KILLED);
    expect(traces(sandbox.id)).toEqual([]);
  });

  it('leaves the whole grace to one that ignores the signal', async () => {
    await using bed = await testBed();
    const sandbox = await bed.start(`trap '' TERM; echo ready; ${b}sleep 0.3; echo survived; ${b}sleep 1000`);
    await printed(sandbox, 'ready');
    expect(await sandbox.stop({ graceMs: 1500 })).toEqual(KILLED);
    expect((await output(sandbox)).stdout).toBe('ready\nsurvived\n');
  });

  it('lets the children of a shell without a handler finish', async () => {
    await using bed = await testBed();
    const child = `trap "${b}sleep 0.2; echo finished; exit 3" TERM; echo ready; while :; do ${b}sleep 0.02; done`;
    const sandbox = await bed.start(`${b}sh -c '${child}'; echo code $?; exit 8`);
    await printed(sandbox, 'ready');
    expect(await sandbox.stop({ graceMs: GRACE })).toEqual({ code: 8, outOfMemory: false });
    expect((await output(sandbox)).stdout).toBe('ready\nfinished\ncode 3\n');
  });

  it('kills children that do not finish within the grace', async () => {
    await using bed = await testBed();
    const child = `trap "echo asked" TERM; echo ready; while :; do ${b}sleep 0.02; done`;
    const sandbox = await bed.start(`${b}sh -c '${child}' & wait`);
    await printed(sandbox, 'ready');
    expect(await sandbox.stop({ graceMs: 400 })).toEqual(KILLED);
    expect((await output(sandbox)).stdout).toBe('ready\nasked\n');
    expect(traces(sandbox.id)).toEqual([]);
  });
});
