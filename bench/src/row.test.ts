import { describe, expect, it } from 'vitest';
import { judge, median, type Row } from './row.ts';

const row: Row = { id: 'x.y', what: '', unit: 's', wanted: 1.5, measure: async () => ({ values: [] }) };

describe('judge()', () => {
  it('bounds the value itself where there is no peer', () => {
    expect(judge(row, { values: [1, 9, 1.5] })).toMatchObject({ value: 1.5, ratio: null, peerValue: null, met: true });
    expect(judge(row, { values: [1.6] })).toMatchObject({ met: false });
  });

  it('bounds the ratio of the medians where there is one', () => {
    expect(judge({ ...row, peer: 'other' }, { values: [30], peerValues: [10, 20, 40] })).toMatchObject({
      peer: 'other',
      peerValue: 20,
      ratio: 1.5,
      met: true,
    });
  });
});

describe('median()', () => {
  it('takes the middle, or the mean of the two in the middle', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
  });

  it('refuses an empty list', () => {
    expect(() => median([])).toThrow(RangeError);
  });
});
