import { describe, expect, it } from 'vitest';
import { parseAge, parseBytes } from './units.ts';

describe('parseBytes()', () => {
  it.each([
    ['0B', 0],
    ['1KiB', 1024],
    ['1.5GiB', 1.5 * 2 ** 30],
    ['2TiB', 2 ** 41],
  ])('reads %s', (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });

  it.each(['', '10', '10GB', '-1MiB', '1e3MiB', 'MiB', '10 GiB', '9999999TiB', '1constructor'])(
    'refuses %j with the way to write it',
    (text) => {
      expect(() => parseBytes(text)).toThrow(
        `Cannot take "${text}" for a size: write a number and a unit, for example 10GiB`,
      );
    },
  );
});

describe('parseAge()', () => {
  it.each([
    ['30d', 30 * 86_400_000],
    ['90m', 5_400_000],
    ['2w', 14 * 86_400_000],
    ['0.5h', 1_800_000],
  ])('reads %s', (text, ms) => {
    expect(parseAge(text)).toBe(ms);
  });

  it.each(['30', '30D', '1y'])('refuses %j', (text) => {
    expect(() => parseAge(text)).toThrow('for an age');
  });
});
