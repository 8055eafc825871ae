import { describe, expect, it } from 'vitest';
import { formatLogId, LogRepetitions } from './log-ids.ts';

const id = (position: number, change: { run?: string; stream?: 'stdout' | 'stderr'; piece?: number } = {}) =>
  formatLogId({ run: 'a-1', stream: 'stdout', position, piece: 0, ...change });

describe('LogRepetitions', () => {
  it('knows what came before, each stream of each run by itself', () => {
    const repetitions = new LogRepetitions();
    const isRepeated = (text: string) => repetitions.isRepeated(text);
    expect([id(5), id(9), id(9, { piece: 1 }), id(9, { piece: 2 })].map(isRepeated)).toEqual([
      false,
      false,
      false,
      false,
    ]);
    expect([id(5), id(9), id(9, { piece: 2 })].map(isRepeated)).toEqual([true, true, true]);
    expect([id(5, { stream: 'stderr' }), id(5, { run: 'a-2' }), id(10)].map(isRepeated)).toEqual([false, false, false]);
  });

  it('leaves messages alone that have no id, or one of somebody else', () => {
    const repetitions = new LogRepetitions();
    for (const other of [undefined, '', 'a-1.stdout.5', 'a-1.stdout.x.0', 'a.b.stdout.5.0', '\u0661.stdout.5.0']) {
      expect(repetitions.isRepeated(other)).toBe(false);
      expect(repetitions.isRepeated(other)).toBe(false);
    }
  });
});
