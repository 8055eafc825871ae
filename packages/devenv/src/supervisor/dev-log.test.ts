import { appendFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import type { DevLogEntry, ServiceName } from '../dev-controls.ts';
import { devLog, DevLogFile } from './dev-log.ts';

const entry = (text: string, service: ServiceName = 'nats'): DevLogEntry => ({
  time: '2026-11-23T10:00:00.000Z',
  service,
  source: 'stdout',
  text,
});

const texts = async (entries: AsyncIterable<DevLogEntry>): Promise<string[]> =>
  (await Array.fromAsync(entries)).map(({ text }) => text);

it('DevLogFile keeps what was printed for the next run, of all services or of some, all or the last', async () => {
  await using dir = await tempDir();
  {
    using log = new DevLogFile(dir.path);
    log.append(entry('one'));
    log.append(entry('two', 'cache'));
  }
  expect((await stat(join(dir.path, 'logs/dev.log'))).mode & 0o777).toBe(0o600);
  using log = new DevLogFile(dir.path);
  log.append(entry('three'));
  expect(await Array.fromAsync(log.read())).toEqual([entry('one'), entry('two', 'cache'), entry('three')]);
  expect(await texts(log.read({ services: ['nats'] }))).toEqual(['one', 'three']);
  expect(await texts(log.read({ tail: 2 }))).toEqual(['two', 'three']);
  expect(await texts(log.read({ tail: 1, services: ['cache'] }))).toEqual(['two']);
  expect(await texts(log.read({ tail: 0 }))).toEqual([]);
  expect(await texts(devLog(dir.path, { tail: 1 }))).toEqual(['three']);
});

it('DevLogFile is bounded on disk, and a reader loses nothing that is put aside while it reads', async () => {
  await using dir = await tempDir();
  using log = new DevLogFile(dir.path, { fileSize: 1000 });
  const line = 'x'.repeat(100);
  for (let count = 0; count < 20; count++) log.append(entry(`${line}${count}`));
  const reading = log.read()[Symbol.asyncIterator]();
  const first = (await reading.next()).value as DevLogEntry;
  for (let count = 20; count < 200; count++) log.append(entry(`${line}${count}`));
  const rest = await texts({ [Symbol.asyncIterator]: () => reading });
  expect([first.text, ...rest].map((text) => Number(text.slice(100)))).toEqual([...Array(20).keys()]);

  const files = await readdir(join(dir.path, 'logs'));
  expect(files.toSorted()).toEqual(['dev.log', 'dev.log.1', 'dev.log.2', 'dev.log.3']);
  for (const file of files) expect((await stat(join(dir.path, 'logs', file))).size).toBeLessThan(1300);
  const kept = (await texts(log.read())).map((text) => Number(text.slice(100)));
  expect(kept.at(-1)).toBe(199);
  expect(kept).toEqual(kept.map((_, index) => 200 - kept.length + index));
});

it('DevLogFile gives a follower everything once and in order, whatever is written while it reads the past, and ends with the log', async () => {
  await using dir = await tempDir();
  using log = new DevLogFile(dir.path, { fileSize: 5000 });
  for (let count = 0; count < 30; count++) log.append(entry(String(count)));
  const seen: string[] = [];
  const following = (async () => {
    for await (const { text } of log.read({ follow: true, services: ['nats'] })) {
      seen.push(text);
      if (seen.length < 100) log.append(entry(String(29 + seen.length)));
      if (seen.length === 100) log.append(entry('other', 'node'));
      if (seen.length === 129) log[Symbol.dispose]();
    }
  })();
  await following;
  expect(seen).toEqual([...Array(129).keys()].map(String));
});

it('DevLogFile tells a follower that is too slow how much was left out, and ends it by its signal', async () => {
  await using dir = await tempDir();
  using log = new DevLogFile(dir.path);
  const stop = new AbortController();
  const follower = log.read({ follow: true, tail: 0, signal: stop.signal })[Symbol.asyncIterator]();
  const first = follower.next();
  log.append(entry('first'));
  expect((await first).value).toMatchObject({ text: 'first' });
  for (let count = 0; count < 10_003; count++) log.append(entry(String(count)));
  expect((await follower.next()).value).toMatchObject({
    source: 'supervisor',
    text: expect.stringMatching(/^\(3 lines/),
  });
  expect((await follower.next()).value).toMatchObject({ text: '3' });
  await follower.return?.();
  const waiting = texts(log.read({ follow: true, tail: 0, signal: stop.signal }));
  stop.abort();
  expect(await waiting).toEqual([]);
});

it('DevLogFile passes over a line that was half written when its writer was killed, and writes on below it', async () => {
  await using dir = await tempDir();
  {
    using log = new DevLogFile(dir.path);
    log.append(entry('whole'));
  }
  await appendFile(join(dir.path, 'logs/dev.log'), '{"time":"2026');
  using log = new DevLogFile(dir.path);
  log.append(entry('next'));
  expect(await texts(log.read())).toEqual(['whole', 'next']);
});
