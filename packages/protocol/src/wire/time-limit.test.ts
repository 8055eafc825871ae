import { expect, it } from 'vitest';
import { withTimeLimit } from './time-limit.ts';

const LATE = expect.objectContaining({ code: 'ERR_SCRIPT_EXECUTION_TIMEOUT' }) as Error;

it('withTimeLimit() gives back what the work returns or throws', () => {
  expect(withTimeLimit(1_000, () => ({ a: 1 }))).toEqual({ a: 1 });
  expect(withTimeLimit(1_000, () => undefined)).toBeUndefined();
  const error = new RangeError('no');
  expect(() =>
    withTimeLimit(1_000, () => {
      throw error;
    }),
  ).toThrow(error);
});

it('withTimeLimit() stops loops and regular expressions that would not end, and what follows works', () => {
  expect(() =>
    withTimeLimit(50, () => {
      for (;;);
    }),
  ).toThrow(LATE);
  expect(() => withTimeLimit(50, () => /^(a+)+$/.test(`${'a'.repeat(60)}!`))).toThrow(LATE);
  expect(withTimeLimit(1_000, () => /^(a+)+$/.test('aaa'))).toBe(true);
});

it('withTimeLimit() can be nested', () => {
  expect(withTimeLimit(1_000, () => [withTimeLimit(1_000, () => 1), withTimeLimit(1_000, () => 2)])).toEqual([1, 2]);
});
