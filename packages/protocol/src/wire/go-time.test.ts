import { assert, integer, property } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatGoDuration, GO_ZERO_TIME, parseGoDuration, parseGoTime } from './go-time.ts';

describe('Go durations', () => {
  it.each([
    ['1m0s', 60_000],
    ['2h3m4.5s', 7_384_500],
    ['250ms', 250],
    ['1.5µs', 0.0015],
    ['1.5μs', 0.0015],
    ['1us', 0.001],
    ['10ns', 0.00001],
    ['0', 0],
    ['0s', 0],
    ['-1.5h', -5_400_000],
    ['+3s', 3_000],
    ['.5s', 500],
    ['1.s', 1_000],
  ])('parseGoDuration(%j)', (text, milliseconds) => {
    expect(parseGoDuration(text)).toBeCloseTo(milliseconds, 9);
  });

  it.each(['', '5', '-', 's', '1x', '1s ', ' 1s', '1,5s', '1s2', '1m 2s', '.s'])(
    'parseGoDuration(%j) is refused',
    (text) => {
      expect(() => parseGoDuration(text)).toThrow(expect.objectContaining({ code: 'NEX_TIME_INVALID' }));
    },
  );

  it.each([
    [0, '0s'],
    [60_000, '1m0s'],
    [5_200, '5.2s'],
    [7_384_500, '2h3m4.5s'],
    [250, '250ms'],
    [1.5, '1.5ms'],
    [0.0015, '1.5µs'],
    [0.00001, '10ns'],
    [3_600_000, '1h0m0s'],
    [-1_000, '-1s'],
  ])('formatGoDuration(%d)', (milliseconds, text) => {
    expect(formatGoDuration(milliseconds)).toBe(text);
  });

  it('survive a round trip', () => {
    assert(
      property(integer({ min: -(10 ** 12), max: 10 ** 12 }), (milliseconds) => {
        expect(parseGoDuration(formatGoDuration(milliseconds))).toBeCloseTo(milliseconds, 3);
      }),
    );
  });
});

describe('parseGoTime()', () => {
  it('takes nanoseconds and offsets', () => {
    expect(parseGoTime('2026-05-01T10:00:00.123456789Z')?.toISOString()).toBe('2026-05-01T10:00:00.123Z');
    expect(parseGoTime('2026-05-01T10:00:00+02:00')?.toISOString()).toBe('2026-05-01T08:00:00.000Z');
  });

  it('knows the time that was never set', () => {
    expect(parseGoTime(GO_ZERO_TIME)).toBeUndefined();
  });

  it.each(['', 'yesterday', '2026-05-01', '2026-13-01T10:00:00Z'])('refuses %j', (text) => {
    expect(() => parseGoTime(text)).toThrow(expect.objectContaining({ code: 'NEX_TIME_INVALID' }));
  });
});
