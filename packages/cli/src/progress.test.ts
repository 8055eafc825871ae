import { describe, expect, it } from 'vitest';
import { openProgress } from './progress.ts';

function open(isTTY: boolean, columns = 80) {
  const clock = { ms: 0 };
  const written: string[] = [];
  const progress = openProgress('Pushing', { isTTY, columns, write: (text) => written.push(text) }, () => clock.ms);
  return { clock, written, progress };
}

describe('progress on a terminal', () => {
  it('is one line, written over at most ten times a second and cleared at the end', () => {
    const { clock, written, progress } = open(true);
    progress.update({ done: 1, total: 4, text: '1 of 4' });
    clock.ms = 50;
    progress.update({ done: 2, total: 4, text: '2 of 4' });
    clock.ms = 150;
    progress.update({ done: 3, total: 4, text: '3 of 4' });
    progress[Symbol.dispose]();
    expect(written).toEqual([
      '\r\u001B[KPushing ━━━━━━──────────────────  25%  1 of 4',
      '\r\u001B[KPushing ━━━━━━━━━━━━━━━━━━──────  75%  3 of 4',
      '\r\u001B[K',
    ]);
  });

  it('never wraps, and writes nothing when there was nothing to show', () => {
    const narrow = open(true, 20);
    narrow.progress.update({ done: 9, total: 4, text: 'x'.repeat(100) });
    expect(narrow.written[0]?.slice('\r\u001B[K'.length)).toHaveLength(19);
    const silent = open(true);
    silent.progress[Symbol.dispose]();
    expect(silent.written).toEqual([]);
  });
});

describe('progress that is not on a terminal', () => {
  it('is a plain line at most every second, the first after one', () => {
    const { clock, written, progress } = open(false);
    for (clock.ms = 0; clock.ms <= 2_500; clock.ms += 100) {
      progress.update({ done: clock.ms, total: 2_500, text: `${clock.ms} ms` });
    }
    progress[Symbol.dispose]();
    expect(written).toEqual(['Pushing: 1000 ms (40%)\n', 'Pushing: 2000 ms (80%)\n']);
  });

  it('counts nothing to do as done', () => {
    const { clock, written, progress } = open(false);
    clock.ms = 1_000;
    progress.update({ done: 0, total: 0, text: 'nothing' });
    expect(written).toEqual(['Pushing: nothing (100%)\n']);
  });
});
