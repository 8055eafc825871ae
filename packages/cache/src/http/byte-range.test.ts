import { describe, expect, it } from 'vitest';
import { parseRange } from './byte-range.ts';

describe('parseRange()', () => {
  it.each([
    ['bytes=0-0', { start: 0, end: 1 }],
    ['bytes=5-', { start: 5, end: 10 }],
    ['bytes=5-99', { start: 5, end: 10 }],
    ['bytes=-3', { start: 7, end: 10 }],
    ['bytes=-99', { start: 0, end: 10 }],
  ])('reads %s', (header, range) => {
    expect(parseRange(header, 10)).toEqual(range);
  });

  it.each([undefined, '', 'bytes=', 'bytes=-', 'bytes=5-4', 'bytes=0-1,3-4', 'lines=1-2', 'bytes=x-1', 'bytes=1-2;'])(
    'ignores %s',
    (header) => {
      expect(parseRange(header, 10)).toBeUndefined();
    },
  );

  it.each(['bytes=10-', 'bytes=99-100', 'bytes=-0'])('cannot satisfy %s', (header) => {
    expect(parseRange(header, 10)).toBe('unsatisfiable');
  });

  it('finds nothing in an empty file', () => {
    expect(parseRange('bytes=0-', 0)).toBe('unsatisfiable');
  });
});
