import { expect, it } from 'vitest';
import { covers } from './feed-stream.ts';

it.each([
  ['a.>', 'a.b.c', true],
  ['a.>', 'a.*.*', true],
  ['a.>', 'a', false],
  ['a.*.logs.>', 'a.ns.logs.w.stdout', true],
  ['a.*.logs.>', 'a.*.logs.*.*', true],
  ['a.ns.logs.>', 'a.*.logs.*.*', false],
  ['a.*.logs.>', 'a.*.events.*', false],
  ['a.*', 'a.>', false],
  ['a.*', 'a.b', true],
  ['a.*', 'a.b.c', false],
  ['>', 'a.>', true],
])('covers(%j, %j) is %s', (pattern, filter, result) => {
  expect(covers(pattern, filter)).toBe(result);
});
