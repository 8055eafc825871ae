import type { LogEntry, LogPosition } from '@nex-nix/sandbox';
import { describe, expect, it } from 'vitest';
import { followLogs, type Published } from './follow-logs.ts';

type Stream = LogEntry['stream'];

/** Entries of these lines one after the other, as if they had been there before reading began. */
function entriesOf(...lines: readonly [Stream, string][]): LogEntry[] {
  const position = { stdout: 0, stderr: 0 };
  return lines.map(([stream, text]) => {
    position[stream] += text.length + 1;
    return { stream, line: Buffer.from(text), position: { ...position } };
  });
}

const at = (stream: Stream, position: number, piece = 0): Published => ({
  [stream]: { run: 'r', stream, position, piece },
});

/** Follows entries; everything is confirmed when somebody waits for that. */
async function follow(entries: readonly LogEntry[], published?: Published) {
  const lines: string[] = [];
  const saved: LogPosition[] = [];
  const unconfirmed: (() => void)[] = [];
  const sink = {
    publish: (
      { stream, line }: LogEntry,
      { piecesOut, onConfirmed }: { piecesOut: number; onConfirmed: () => void },
    ) => {
      const text = line.length > 100 ? `${line.length} bytes` : Buffer.from(line).toString();
      lines.push(`${stream} ${text}${piecesOut > 0 ? ` after piece ${piecesOut}` : ''}`);
      unconfirmed.push(onConfirmed);
      return true;
    },
    delivered: async () => {
      for (const confirm of unconfirmed.splice(0)) confirm();
      return true;
    },
    save: (position: LogPosition) => void saved.push(position),
  };
  await followLogs(
    (async function* () {
      yield* entries;
    })(),
    sink,
    published,
  );
  return { lines, saved };
}

describe('followLogs()', () => {
  const both = entriesOf(['stdout', 'a'], ['stderr', 'b'], ['stdout', 'c'], ['stderr', 'd']);

  it('saves the position of what is confirmed, once for all that is confirmed together', async () => {
    expect(await follow(both)).toEqual({
      lines: ['stdout a', 'stderr b', 'stdout c', 'stderr d'],
      saved: [{ stdout: 4, stderr: 4 }],
    });
  });

  it('leaves out what is published already, each stream by itself', async () => {
    expect((await follow(both, at('stdout', 2))).lines).toEqual(['stderr b', 'stdout c', 'stderr d']);
    expect((await follow(both, { ...at('stdout', 4), ...at('stderr', 2) })).lines).toEqual(['stderr d']);
  });

  it('writes down what it leaves out, unless something before it is not confirmed yet', async () => {
    expect((await follow(both, { ...at('stdout', 4), ...at('stderr', 4) })).saved.at(-1)).toEqual({
      stdout: 4,
      stderr: 4,
    });
    expect((await follow(both, at('stderr', 4))).saved).toEqual([{ stdout: 4, stderr: 2 }]);
  });

  it('goes on within a line of which only some pieces are published', async () => {
    const long = entriesOf(['stdout', 'x'.repeat(65_000)], ['stdout', 'end']);
    expect((await follow(long, at('stdout', 65_001))).lines).toEqual([
      'stdout 65000 bytes after piece 1',
      'stdout end',
    ]);
    expect((await follow(long, at('stdout', 65_001, 1))).lines).toEqual(['stdout end']);
  });

  it('publishes what is printed now, even if somebody says that it is published', async () => {
    const now = both.map((entry) => ({ ...entry, time: new Date() }));
    expect((await follow(now, at('stdout', 1_000_000))).lines).toEqual([
      'stdout a',
      'stderr b',
      'stdout c',
      'stderr d',
    ]);
  });

  it('tells of a loss only as far as what is lost was not published', async () => {
    const lost = { stream: 'stdout' as const, line: Buffer.alloc(0), lost: 50, position: { stdout: 80, stderr: 0 } };
    const notice = (bytes: number) =>
      `stderr nex: ${bytes} bytes of stdout were dropped: more was printed than is kept for a reader`;
    expect((await follow([lost])).lines).toEqual([notice(50)]);
    expect((await follow([lost], at('stdout', 70))).lines).toEqual([notice(10)]);
    expect((await follow([lost], at('stdout', 80))).lines).toEqual([]);
  });
});
