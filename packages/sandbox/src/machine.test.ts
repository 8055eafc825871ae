import { describe, expect, it } from 'vitest';
import { parseMaxFiles } from './machine.ts';

const limits = (hard: string) =>
  `Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 ${hard}               files\n`;

describe('parseMaxFiles()', () => {
  it('asks for no more than this process may have itself', () => {
    expect(parseMaxFiles(limits('20000'))).toBe(20_000);
    expect(parseMaxFiles(limits('1048576'))).toBe(65_536);
    expect(parseMaxFiles(limits('unlimited'))).toBe(65_536);
    expect(parseMaxFiles('')).toBe(65_536);
  });
});
