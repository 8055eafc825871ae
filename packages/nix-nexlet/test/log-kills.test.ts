import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { jetstreamManager } from '@nats-io/jetstream';
import { FEED_STREAM, LOG_ID_HEADER } from '@nex-nix/protocol';
import { describeWith, type RunningProcess, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Network, startNetwork, startNodeProcess, sweep, TOOLS, User } from './bed.ts';

const KILLS = Number(process.env['NEX_TEST_KILLS'] ?? 2);
/** What may be sent before it is confirmed, what a message counts beside its text, and the longest piece of a line; in bytes. */
const BATCH = 2 ** 18;
const OVERHEAD = 200;
const PIECE = 2 ** 15;
/** Every so many lines one is longer than a message. */
const LONG_EVERY = 2_000;
const LONG = 40_000;
/** Prints numbered lines, some thousand a second, a tenth of them to stderr; the long ones to stdout. */
const FLOW = `i=0
while :; do
  n=0
  while [ $n -lt 100 ]; do
    n=$((n+1)); i=$((i+1)); echo $i
    [ $((i % 10)) -ne 0 ] || echo $i >&2
    [ $((i % ${LONG_EVERY})) -ne 0 ] || printf '%0${LONG}d\\n' $i
  done
  sleep 0.05
done`;

interface Message {
  readonly id: string;
  readonly text: string;
}

/** Text of a stream, put together again. */
const textOf = (messages: readonly Message[]) =>
  messages.map(({ text }) => (text.length < PIECE ? `${text}\n` : text)).join('');

/** The text of a stream as the program printed it, as long as `text`. */
function printed(stream: string, { length }: string): string {
  let text = '';
  for (let line = 1; text.length < length; line++) {
    if (stream === 'stdout' || line % 10 === 0) text += `${line}\n`;
    if (stream === 'stdout' && line % LONG_EVERY === 0) text += `${String(line).padStart(LONG, '0')}\n`;
  }
  return text.slice(0, length);
}

/** Where two texts begin to differ, and what is there. */
function difference(text: string, wanted: string): string {
  if (text === wanted) return 'none';
  let at = 0;
  while (text[at] === wanted[at]) at++;
  const around = (whole: string) => JSON.stringify(whole.slice(Math.max(0, at - 40), at + 80));
  return `at ${at} of ${text.length}: ${around(text)}, not ${around(wanted)}`;
}

/** Messages whose id came before. */
const repetitions = (messages: readonly Message[]) => {
  const seen = new Set<string>();
  return messages.filter(({ id }) => seen.size === seen.add(id).size);
};

describeWith(TOOLS, `${KILLS} kills of a node while its workloads print thousands of lines a second`, () => {
  let network: Network;
  let stateDir: string;
  let node: RunningProcess | undefined;
  const heard = new Map<string, Message[]>();
  const heardOf = (namespace: string, stream: string) => heard.get(`${namespace}.${stream}`) ?? [];
  const count = (namespace: string) => heardOf(namespace, 'stdout').length;

  beforeAll(
    async () => {
      network = await startNetwork();
      const { nc, dir } = network;
      // Somebody who just listens, and knows nothing of ids.
      nc.subscribe('$NEX.FEED.*.logs.>', {
        callback: (_error, { subject, headers, data }) => {
          const [, , namespace, , , stream] = subject.split('.');
          const key = `${namespace}.${stream}`;
          const list = heard.get(key) ?? [];
          heard.set(key, list);
          list.push({ id: headers?.get(LOG_ID_HEADER) ?? '', text: Buffer.from(data).toString() });
        },
      });
      const subjects = ['$NEX.FEED.kept.logs.>'];
      await (await jetstreamManager(nc)).streams.add({ name: FEED_STREAM, subjects, allow_direct: true });
      stateDir = join(dir.path, 'node');
      node = await startNodeProcess(network, stateDir);
      const namespaces = ['kept', 'default'];
      const [kept] = await Promise.all(namespaces.map((namespace) => new User(network, namespace).start(FLOW)));
      const moreLines = async () => {
        const before = namespaces.map(count);
        const goOn = () => namespaces.every((namespace, index) => count(namespace) > (before[index] ?? 0) + 500);
        await waitFor('more lines', goOn, { timeout: 30_000 });
      };
      for (let kill = 0; kill < KILLS; kill++) {
        await moreLines();
        // The moment is what is tested, so time itself is waited for here.
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 100));
        await end();
        // As if it had been killed before it wrote down how far it got: every other time, the stream alone knows that.
        if (kill % 2 === 0) await rm(join(stateDir, 'workloads', `${kept}.bookmark`));
        node = await startNodeProcess(network, stateDir);
      }
      await moreLines();
    },
    60_000 + KILLS * 45_000,
  );
  // Here, so that nothing goes on when the above takes too long.
  afterAll(async () => {
    await end();
    await sweep(stateDir);
    await network[Symbol.asyncDispose]();
  });

  const end = async () => {
    node?.kill('SIGKILL');
    await node?.exited;
  };

  it.each(['stdout', 'stderr'])('repeats nothing of %s where a stream keeps it, and nothing is missing', (stream) => {
    const messages = heardOf('kept', stream);
    expect(repetitions(messages)).toEqual([]);
    const text = textOf(messages);
    expect(text.length).toBeGreaterThan(100);
    expect(difference(text, printed(stream, text))).toBe('none');
  });

  it.each(['stdout', 'stderr'])(
    'repeats one batch of %s a kill where nothing keeps it, under the same ids',
    (stream) => {
      const messages = heardOf('default', stream);
      const again = repetitions(messages);
      const seen = new Set<string>();
      const once = messages.filter(({ id }) => seen.size < seen.add(id).size);
      const text = textOf(once);
      expect(text.length).toBeGreaterThan(100);
      expect(difference(text, printed(stream, text))).toBe('none');
      const size = again.reduce((bytes, { text: { length } }) => bytes + length + OVERHEAD, 0);
      expect(size).toBeLessThanOrEqual(KILLS * BATCH);
    },
  );
});
