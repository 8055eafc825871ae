import { describe, expect, it } from 'vitest';
import { parseComplaints, parseExit } from './sandbox-files.ts';

describe('parseExit()', () => {
  it.each([
    ['0 0', { code: 0, outOfMemory: false }],
    ['3 0', { code: 3, outOfMemory: false }],
    ['143 0', { code: 143, signal: 'SIGTERM', outOfMemory: false }],
    ['137 2', { code: 137, signal: 'SIGKILL', outOfMemory: true }],
    ['255 0', { code: 255, outOfMemory: false }],
    // A child was killed and the program lived with it.
    ['0 1', { code: 0, outOfMemory: false }],
  ])('reads "%s"', (line, exit) => {
    expect(parseExit(line)).toEqual(exit);
  });

  it('does not read half a line', () => {
    expect(parseExit('13')).toBeUndefined();
    expect(parseExit('')).toBeUndefined();
  });
});

describe('parseComplaints()', () => {
  it('reads what crun writes, an object a line or over several', () => {
    expect(parseComplaints('{"msg":"one","level":"error"}\n{"msg":"two","level":"error"}\n')).toEqual(['one', 'two']);
    expect(parseComplaints('{\n  "msg": "a {b}",\n  "level": "error"\n}\n{\n  "msg": "c"\n}\n')).toEqual([
      'a {b}',
      'c',
    ]);
  });

  it('takes no notice of anything else', () => {
    expect(parseComplaints('')).toEqual([]);
    expect(parseComplaints('msg\n{"level":"error"}\n{"msg":1}\n{"msg":"cut')).toEqual([]);
  });
});
