import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { type Duplex, duplexPair } from 'node:stream';
import { describeWith, tempDir, waitFor } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { QmpClient } from './qmp-client.ts';
import type { QmpEvent } from './qmp-message.ts';

const GREETING =
  '{"QMP":{"version":{"qemu":{"major":7,"minor":2,"micro":22},"package":"x"},"capabilities":["oob"]}}\r\n';
const FAILED = { code: 'SANDBOX_VMM_FAILED' };

describe('QmpClient', () => {
  it.each([
    [
      'something that is no JSON',
      'Guru Meditation\n',
      'Cannot understand what QEMU says on its monitor: "Guru Meditation"',
    ],
    ['JSON of another kind', '[1]\n', 'Cannot understand'],
    ['a greeting without a version', '{"QMP":{}}\n', 'Cannot understand'],
    ['a version that is no number', GREETING.replace('7', '"seven"'), 'Cannot understand'],
    ['a line without an end', 'x'.repeat(2 * 1024 * 1024), 'a line has no end'],
    ['an answer that nobody asked for', '{"return":{},"id":77}\n', 'answers 77, which nobody asked'],
    ['an answer without an id', '{"error":{"class":"GenericError","desc":"x"}}\n', 'Cannot understand'],
    ['an event without a name', '{"event":1}\n', 'Cannot understand'],
  ])('refuses %s', async (_what, bytes, message) => {
    const { client, qemu } = pair();
    const opened = QmpClient.open(client);
    qemu.write(bytes);
    await expect(opened).rejects.toMatchObject({ ...FAILED, message: expect.stringContaining(message) });
    expect(client.destroyed).toBe(true);
  });

  it('says so when nobody greets it', async () => {
    const { client, qemu } = pair();
    const opened = QmpClient.open(client);
    qemu.end();
    await expect(opened).rejects.toMatchObject({ ...FAILED, message: expect.stringContaining('closed its monitor') });
  });

  it('gives up waiting for a greeting when it is told to', async () => {
    const { client } = pair();
    await expect(QmpClient.open(client, { signal: AbortSignal.timeout(10) })).rejects.toMatchObject(FAILED);
    await expect(QmpClient.open(pair().client, { signal: AbortSignal.abort() })).rejects.toMatchObject(FAILED);
  });

  it('tells events from answers, whatever pieces they come in, and answers from one another', async () => {
    const events: QmpEvent[] = [];
    const { client, asked } = await opened({ onEvent: (event) => events.push(event) });
    const answers = [client.execute('query-status'), client.execute('query-migrate'), client.execute('cont')];
    const [status, migrate, cont] = await asked(3);
    const text = [
      { event: 'RESUME', timestamp: { seconds: 1, microseconds: 2 } },
      { id: cont?.id, return: {} },
      { event: 'SHUTDOWN', data: { guest: true, reason: 'guest-reset' }, timestamp: {} },
      { return: { status: 'completed', ram: { total: 1 } }, id: migrate?.id },
      { return: { status: 'running', singlestep: false }, id: status?.id },
    ].map((message) => `${JSON.stringify(message)}\r\n`);
    for (const byte of Buffer.from(text.join(''))) client.qemu.write(Buffer.of(byte));
    expect(await Promise.all(answers)).toMatchObject([{ status: 'running' }, { status: 'completed' }, {}]);
    expect(events).toEqual([
      { name: 'other', event: 'RESUME' },
      { name: 'SHUTDOWN', reason: 'guest-reset' },
    ]);
  });

  it('ends the connection when a return is not what the command gives', async () => {
    const { client, asked } = await opened();
    const status = client.execute('query-status');
    const other = client.execute('cont');
    const [question] = await asked(2);
    client.qemu.write(`${JSON.stringify({ return: { status: 5 }, id: question?.id })}\n`);
    await expect(status).rejects.toMatchObject(FAILED);
    await expect(other).rejects.toMatchObject(FAILED);
    expect((await client.closed).message).toContain('"query-status"');
    await expect(client.execute('stop')).rejects.toMatchObject(FAILED);
  });

  it('fails what is waited for when the connection breaks', async () => {
    const { client, asked } = await opened();
    const stop = client.execute('stop');
    await asked(1);
    client.qemu.destroy(new Error('cut'));
    await expect(stop).rejects.toMatchObject(FAILED);
    expect(await client.closed).toMatchObject(FAILED);
  });
});

describeWith(['qemu-system-x86_64'], 'QmpClient with QEMU', () => {
  it('asks, is refused with the reason, and is told of the end', async () => {
    await using qemu = await startQemu();
    const events: QmpEvent[] = [];
    using client = await QmpClient.open(connect(qemu.socket), { onEvent: (event) => events.push(event) });
    expect(client.version.major).toBeGreaterThanOrEqual(7);
    expect(await client.execute('query-status')).toMatchObject({ status: 'prelaunch' });
    expect(await client.execute('query-migrate')).toEqual({});
    await expect(client.execute('blockdev-del', { 'node-name': 'nothing' })).rejects.toMatchObject({
      ...FAILED,
      message: expect.stringMatching(/^Cannot have QEMU do "blockdev-del": .*nothing.* \(GenericError\)$/),
    });
    await client.execute('cont');
    await client.execute('quit');
    expect(await client.closed).toMatchObject(FAILED);
    expect(events).toContainEqual({ name: 'other', event: 'RESUME' });
    expect(events).toContainEqual({ name: 'SHUTDOWN', reason: 'host-qmp-quit' });
  });

  it('is greeted when the one before has gone', async () => {
    await using qemu = await startQemu();
    const first = await QmpClient.open(connect(qemu.socket));
    const second = QmpClient.open(connect(qemu.socket));
    expect(await first.execute('query-status')).toMatchObject({ status: 'prelaunch' });
    first[Symbol.dispose]();
    using next = await second;
    expect(await next.execute('query-status')).toMatchObject({ status: 'prelaunch' });
  });

  it('learns at once that QEMU was killed', async () => {
    await using qemu = await startQemu();
    using client = await QmpClient.open(connect(qemu.socket));
    qemu.child.kill('SIGKILL');
    expect(await client.closed).toMatchObject(FAILED);
  });
});

function pair(): { client: Duplex; qemu: Duplex } {
  const [client, qemu] = duplexPair();
  qemu.on('error', () => undefined);
  return { client, qemu };
}

/** A client that was greeted, by somebody who answers what a test says. */
async function opened(options: { onEvent?: (event: QmpEvent) => void } = {}) {
  const ends = pair();
  const questions: { execute: string; id: number }[] = [];
  ends.qemu.on('data', (bytes: Buffer) => {
    for (const line of bytes.toString().trim().split('\n'))
      questions.push(JSON.parse(line) as { execute: string; id: number });
  });
  const opening = QmpClient.open(ends.client, options);
  ends.qemu.write(GREETING);
  const first = await waitFor('the first question', () => questions.shift());
  expect(first.execute).toBe('qmp_capabilities');
  ends.qemu.write(`${JSON.stringify({ return: {}, id: first.id })}\r\n`);
  const client = Object.assign(await opening, { qemu: ends.qemu });
  /** What was asked since, once it is so many questions. */
  const asked = async (count: number) =>
    waitFor('the questions', () => questions.length === count && questions.splice(0));
  return { client, asked };
}

async function startQemu(): Promise<AsyncDisposable & { socket: string; child: ChildProcess }> {
  const dir = await tempDir('nex-qmp-');
  const socket = join(dir.path, 'qmp');
  const args = ['-M', 'none', '-display', 'none', '-nodefaults', '-S', '-qmp', `unix:${socket},server=on,wait=off`];
  const child = spawn('qemu-system-x86_64', args, { stdio: 'ignore' });
  const exit = once(child, 'exit');
  await waitFor('QEMU to listen', async () => isListening(socket));
  return {
    socket,
    child,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await exit;
      await dir[Symbol.asyncDispose]();
    },
  };
}

async function isListening(socket: string): Promise<boolean> {
  const probe = connect(socket);
  try {
    await once(probe, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    probe.destroy();
  }
}
