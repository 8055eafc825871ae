import { describe, expect, it } from 'vitest';
import { formatBytes } from './output.ts';
import { friendlyDuration, parsePairs, parseTags, positive } from './parse.ts';

describe('parseTags()', () => {
  it('reads pairs separated by semicolons or commas, and adds to those given before', () => {
    expect(parseTags('b=2;c=3,d=4', { a: '1' })).toEqual({ a: '1', b: '2', c: '3', d: '4' });
  });
});

describe('parsePairs()', () => {
  it('splits at the first equals sign', () => {
    expect(parsePairs(['A=1', 'B=x=y', 'C='], 'variable')).toEqual({ A: '1', B: 'x=y', C: '' });
  });

  it.each(['A', '=x'])('refuses %j with the way to write it', (pair) => {
    expect(() => parsePairs([pair], 'variable')).toThrow(`Cannot read the variable "${pair}": write NAME=VALUE`);
  });
});

describe('positive()', () => {
  it.each(['0', '-1', 'x', '', 'Infinity', 'NaN'])('refuses %j', (text) => {
    expect(() => positive('a port')(text)).toThrow(`Cannot take "${text}" for a port: write a number above 0`);
  });

  it('takes fractions unless a whole number is wanted', () => {
    expect(positive('seconds')('0.5')).toBe(0.5);
    expect(() => positive('a port', { whole: true })('0.5')).toThrow('write a whole number above 0');
  });
});

describe('friendlyDuration()', () => {
  it.each([
    [0, '0s'],
    [999, '0s'],
    [61_000, '1m 1s'],
    [86_400_000 + 2 * 3_600_000 + 3 * 60_000 + 4_000, '1d 2h 3m 4s'],
    [3_600_000, '1h'],
  ])('%i ms is %s', (ms, text) => {
    expect(friendlyDuration(ms)).toBe(text);
  });
});

describe('formatBytes()', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1.5 * 2 ** 30, '1.5 GiB'],
  ])('%i is %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });
});
