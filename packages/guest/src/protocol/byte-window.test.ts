import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteWindow } from './byte-window.ts';

const SIZE = 10_000;

describe('ByteWindow', () => {
  it('has what was pushed and not dropped, as far as there was room', () => {
    const step = fc.record({ push: fc.integer({ min: 0, max: 9000 }), drop: fc.integer({ min: 0, max: 9000 }) });
    const property = fc.property(fc.nat(2 ** 40), fc.array(step, { maxLength: 30 }), (start, steps) => {
      const window = new ByteWindow(SIZE, start);
      let kept = Buffer.alloc(0);
      let from = start;
      for (const { push, drop } of steps) {
        const bytes = Buffer.from(Array.from({ length: push }, (_, i) => (from + kept.length + i) % 251));
        const taken = window.push(bytes);
        expect(taken).toBe(Math.min(push, SIZE - kept.length));
        kept = Buffer.concat([kept, bytes.subarray(0, taken)]);
        const dropped = Math.min(drop, kept.length);
        window.dropTo(from + dropped);
        from += dropped;
        kept = kept.subarray(dropped);
        expect([window.from, window.end]).toEqual([from, from + kept.length]);
        expect(window.read(from, SIZE).equals(kept)).toBe(true);
      }
    });
    fc.assert(property, { numRuns: 60 });
  });

  it('does not go back', () => {
    const window = new ByteWindow(SIZE);
    window.push(Buffer.from('abc'));
    window.dropTo(2);
    window.dropTo(1);
    expect(window.from).toBe(2);
    window.dropTo(9);
    expect([window.from, window.end]).toEqual([3, 3]);
  });
});
