import { waitFor } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import type { LogPosition } from '../sandbox.ts';
import { PacedAcks } from './paced-acks.ts';

describe('PacedAcks', () => {
  it('acknowledges much at once, and little together, where there is no rate', async () => {
    const sent: LogPosition[] = [];
    using acks = new PacedAcks((positions) => sent.push(positions), { from: { stdout: 5, stderr: 7 } });
    acks.written('stdout', 1_000_000);
    expect(sent).toEqual([{ stdout: 1_000_000, stderr: 7 }]);
    for (let end = 8; end < 100; end++) acks.written('stderr', end);
    await waitFor('the rest', () => sent.length > 1);
    expect(sent.slice(1)).toEqual([{ stdout: 1_000_000, stderr: 99 }]);
  });

  it('acknowledges a second’s bytes at once and the rest as time passes, the other stream unharmed', async () => {
    const sent: LogPosition[] = [];
    using acks = new PacedAcks((positions) => sent.push(positions), { from: { stdout: 0, stderr: 0 }, rate: 1000 });
    const began = performance.now();
    acks.written('stdout', 1500);
    await waitFor('the first', () => sent.length > 0);
    expect(sent.at(-1)?.stdout).toBeLessThan(1200);
    acks.written('stderr', 10);
    await waitFor('all to be acknowledged', () => sent.at(-1)?.stdout === 1500);
    expect(performance.now() - began).toBeGreaterThan(400);
    expect(sent.at(-1)).toEqual({ stdout: 1500, stderr: 10 });
  });
});
