import { describe, expect, it } from 'vitest';
import { hasTags, nodeTags } from './tags.ts';

const who = { name: 'n1', nexus: 'nexus' };

describe('nodeTags()', () => {
  it('adds what every node has, as Go names it', () => {
    expect(nodeTags({ region: 'lab' }, who)).toEqual({
      region: 'lab',
      'nex.os': 'linux',
      'nex.arch': process.arch === 'x64' ? 'amd64' : process.arch,
      'nex.cpucount': expect.stringMatching(/^\d+$/) as unknown,
      'nex.lameduck': 'false',
      'nex.nexus': 'nexus',
      'nex.node': 'n1',
    });
  });

  it.each(['nex.os', 'nex.mine', 'NEX.os'])('refuses %s', (tag) => {
    expect(() => nodeTags({ [tag]: 'x' }, who)).toThrow('can not use reserved tag prefix: nex.');
  });
});

describe('hasTags()', () => {
  it('wants every tag with its value', () => {
    expect(hasTags({ a: '1', b: '2' }, {})).toBe(true);
    expect(hasTags({ a: '1', b: '2' }, { b: '2' })).toBe(true);
    expect(hasTags({ a: '1' }, { a: '2' })).toBe(false);
    expect(hasTags({ a: '1' }, { a: '1', b: '2' })).toBe(false);
    expect(hasTags({}, { constructor: 'x' })).toBe(false);
  });
});
