import { describe, expect, it } from 'vitest';
import { formatAge, formatAgo, parseAge, parseBytes, parseDuration, parseSince } from './units.ts';

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

describe('formatAge() and formatAgo()', () => {
  it.each([
    [0, '0s'],
    [1500, '1.5s'],
    [90_000, '90s'],
    [600_000, '10m'],
    [14 * 86_400_000, '2w'],
  ])('writes %s ms as parseAge() reads it', (ms, text) => {
    expect(formatAge(ms)).toBe(text);
    expect(parseAge(text)).toBe(ms);
  });

  it.each([
    [-5000, 'just now'],
    [999, 'just now'],
    [61_000, '1m ago'],
    [47 * 3_600_000, '1d ago'],
    [400 * 86_400_000, '57w ago'],
  ])('says of %s ms how long ago they were', (ms, text) => {
    expect(formatAgo(new Date(1_000_000_000_000 - ms), 1_000_000_000_000)).toBe(text);
  });
});

describe('parseDuration()', () => {
  it.each([
    ['1m0s', 60_000],
    ['1h30m', 5_400_000],
    ['250ms', 250],
    ['0.5s', 500],
    ['0s', 0],
  ])('reads %s', (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  it.each(['', '10', '1y', '-1s', '1m 2s', 's', '1m2'])('refuses %j with the way to write it', (text) => {
    expect(() => parseDuration(text)).toThrow(`Cannot take "${text}" for a duration: write numbers with units`);
  });
});

describe('parseSince()', () => {
  it('reads a time, and how long ago something was', () => {
    expect(parseSince('2026-01-31T12:00:00Z')).toEqual(new Date('2026-01-31T12:00:00Z'));
    const since = parseSince('10m').getTime();
    const ago = Date.now() - since;
    expect(ago).toBeGreaterThanOrEqual(600_000);
    expect(ago).toBeLessThan(601_000);
  });

  it.each(['yesterday', '', '10', '2026-13-01'])('refuses %j', (text) => {
    expect(() => parseSince(text)).toThrow(`Cannot take "${text}" for a`);
  });
});
