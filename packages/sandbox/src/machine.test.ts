import { describe, expect, it } from 'vitest';
import { allowedRlimits } from './machine.ts';

const limits = (hard: string) =>
  `Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 ${hard}               files\n`;
const files = (text: string) => allowedRlimits(text).find(({ name }) => name === 'NOFILE')?.value;

describe('allowedRlimits()', () => {
  it('asks for no more than this process may have itself', () => {
    expect(files(limits('20000'))).toBe(20_000);
    expect(files(limits('1048576'))).toBe(65_536);
    expect(files(limits('unlimited'))).toBe(65_536);
    expect(files('')).toBe(65_536);
  });

  it('allows no core dump and no priority', () => {
    const values = Object.fromEntries(allowedRlimits('').map(({ name, value }) => [name, value]));
    expect(values).toMatchObject({ CORE: 0, NICE: 0, RTPRIO: 0 });
  });
});
