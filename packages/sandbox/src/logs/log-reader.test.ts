import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { MAX_LINE_BYTES } from './line-splitter.ts';
import { readLogs } from './log-reader.ts';
import { Pulse } from '../pulse.ts';
import type { LogEntry, LogPosition } from '../sandbox.ts';

const START: LogPosition = { stdout: 0, stderr: 0 };

/** Log files under a test's control. */
async function source() {
  const dir = await tempDir();
  const pulse = new Pulse();
  const state = { ended: false, released: false };
  const path = (stream: 'stdout' | 'stderr') => join(dir.path, `${stream}.0`);
  const change = async (task: () => Promise<unknown> | void) => {
    await task();
    pulse.fire();
  };
  return {
    state,
    write: (stream: 'stdout' | 'stderr', text: string) => change(() => appendFile(path(stream), text)),
    end: () => change(() => void (state.ended = true)),
    release: () => change(() => void (state.released = true)),
    read: (from = START, follow = false) =>
      readLogs(
        { folder: dir.path, ended: () => state.ended, released: () => state.released, changed: () => pulse.next() },
        from,
        {
          follow,
        },
      ),
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  };
}

const text = ({ line }: LogEntry) => Buffer.from(line).toString();

async function collect(entries: AsyncIterable<LogEntry>): Promise<LogEntry[]> {
  const all: LogEntry[] = [];
  for await (const entry of entries) all.push(entry);
  return all;
}

describe('readLogs()', () => {
  it('gives whole lines only, while more may come', async () => {
    await using logs = await source();
    await logs.write('stdout', 'one\n\ntwo\nthr');
    expect((await collect(logs.read())).map(text)).toEqual(['one', '', 'two']);
  });

  it('gives the unfinished last line once nothing more will come', async () => {
    await using logs = await source();
    await logs.write('stderr', 'one\ntwo');
    await logs.end();
    expect((await collect(logs.read())).map(text)).toEqual(['one', 'two']);
  });

  it('goes on after any entry, losing and repeating nothing', async () => {
    await using logs = await source();
    await logs.write('stdout', `a\n${'b'.repeat(3 * MAX_LINE_BYTES)}\nc\n`);
    await logs.write('stderr', 'x\ny');
    await logs.end();
    const all = await collect(logs.read());
    for (const [index, { position }] of all.entries()) {
      expect(await collect(logs.read(position))).toEqual(all.slice(index + 1));
    }
    expect(all.at(-1)?.position).toEqual({ stdout: 2 + 3 * MAX_LINE_BYTES + 1 + 2, stderr: 3 });
  });

  it.each([-1, 0, 1])('splits a line of the greatest length %i bytes', async (difference) => {
    await using logs = await source();
    const length = MAX_LINE_BYTES + difference;
    await logs.write('stdout', `${'x'.repeat(length)}\nend\n`);
    const lengths = (await collect(logs.read())).map(({ line }) => line.length);
    expect(lengths).toEqual(difference > 0 ? [MAX_LINE_BYTES, difference, 3] : [length, 3]);
  });

  it('follows, also files that are not there yet, and dates what it sees arrive', async () => {
    await using logs = await source();
    await logs.write('stdout', 'old\n');
    const entries = logs.read(START, true);
    const first = await entries.next();
    expect(first.value).toMatchObject({ stream: 'stdout' });
    expect(first.value).not.toHaveProperty('time');
    const next = entries.next();
    await logs.write('stderr', 'ne');
    await logs.write('stderr', 'w\n');
    const { value } = await next;
    expect(value && text(value)).toBe('new');
    expect(value?.time).toBeInstanceOf(Date);
    await logs.end();
    expect(await entries.next()).toMatchObject({ done: true });
  });

  it('ends a follower whose source is released', async () => {
    await using logs = await source();
    const next = logs.read(START, true).next();
    await logs.release();
    expect(await next).toMatchObject({ done: true });
  });
});
