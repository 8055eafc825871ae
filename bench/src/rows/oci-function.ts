import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import type { Msg } from '@nats-io/nats-core';
import { connectNats } from '@nex-nix/nats-context';
import { NexClient } from '@nex-nix/protocol';
import { startNatsServer, tempDir, waitFor } from '@nex-nix/test-kit';
import { median, type Measurement, type Row } from '../row.ts';

const NODE = fileURLToPath(import.meta.resolve('./oci-node.ts'));
const SERVICE = fileURLToPath(import.meta.resolve('./oci-function-service.ts'));
const BYTES = 512 * 1024;
const RUNS = 30;
const WARM_UP = 5;
/** Time in which the pool gets its next sandbox, in milliseconds. */
const REFILL = 150;
const CONCURRENCY = 8;
const INVOCATIONS = 120;

const warm: Row = {
  id: 'oci.function',
  what: `a warm function that compresses ${BYTES / 1024} KiB of text (gzip of busybox), request to reply`,
  unit: 'ms',
  peer: 'a plain request to a running service (Node, zlib) that does the same',
  wanted: 3,
  async measure(): Promise<Measurement> {
    await using stack = new AsyncDisposableStack();
    const dir = stack.use(await tempDir('nex-function-'));
    const server = stack.use(await startNatsServer());
    const nc = stack.use(await connectNats({ servers: server.url }));
    const node = stack.use(await startChild(NODE, [server.url, join(dir.path, 'node'), '4']));
    stack.use(await startChild(SERVICE, [server.url, 'service.gzip', 'service.true']));
    const client = new NexClient(nc, { namespace: 'default' });
    const { storePath } = node.message as { storePath: string };
    for (const program of ['gzip', 'true']) await startFunction(client, storePath, program);

    const text = prose(BYTES);
    const call = async (subject: string, data: Uint8Array): Promise<[ms: number, reply: Msg]> => {
      const start = performance.now();
      const reply = await nc.request(subject, data, { timeout: 30_000 });
      const time = performance.now() - start;
      const error = reply.headers?.get('error');
      if (error !== undefined && error !== '') throw new Error(`The function "${subject}" failed: ${error}`);
      return [time, reply];
    };
    const times: Record<string, number[]> = { 'fn.gzip': [], 'service.gzip': [], 'fn.true': [], 'service.true': [] };
    const sizes: Record<string, number> = {};
    for (let run = 0; run < WARM_UP + RUNS; run++) {
      for (const subject of Object.keys(times)) {
        const compresses = subject.endsWith('gzip');
        await delay(REFILL);
        const [time, reply] = await call(subject, compresses ? text : new Uint8Array());
        if (compresses && !gunzipSync(reply.data).equals(text)) throw new Error(`"${subject}" compresses wrongly`);
        sizes[subject] = reply.data.length;
        if (run >= WARM_UP) times[subject]?.push(time);
      }
    }
    const [value, peer, empty, emptyPeer] = Object.values(times).map((list) => median(list));
    const overhead = (subject: string) => nearly(times[subject] ?? []);
    const rate = await throughput(() => call('fn.true', new Uint8Array()));
    if (value === undefined || peer === undefined || empty === undefined || emptyPeer === undefined) throw new Error();
    return {
      values: times['fn.gzip'] ?? [],
      peerValues: times['service.gzip'] ?? [],
      notes: [
        `  one request after the other, ${REFILL} ms apart; p90 ${overhead('fn.gzip')} against ${overhead('service.gzip')} ms; replies of ${sizes['fn.gzip']} and ${sizes['service.gzip']} bytes`,
        `  of it the sandbox: a program that does nothing answers after ${empty.toFixed(2)} ms (p90 ${overhead('fn.true')}), a service that does nothing after ${emptyPeer.toFixed(2)} ms`,
        `  ${CONCURRENCY} at once: ${rate.toFixed(0)} invocations of the program that does nothing a second, a new sandbox for each`,
      ],
    };
  },
};

export const ociFunctionRows: readonly Row[] = [warm];

async function startFunction(client: NexClient, storePath: string, program: string): Promise<void> {
  const runRequest = {
    store_path: storePath,
    program: `bin/${program}`,
    network: 'none',
    triggers: [`fn.${program}`],
    function: { warm: 2, concurrency: CONCURRENCY },
  };
  const { id } = await client.startWorkload({ type: 'nix', name: program, lifecycle: 'function', runRequest });
  await waitFor(`the function "${program}"`, async () => {
    const { workloads } = await client.listWorkloads({ filter: [id] });
    const state = workloads[0]?.workload_state;
    if (state === 'error') throw new Error(workloads[0]?.metadata?.['reason']);
    return state === 'warm';
  });
}

/** Invocations a second, with so many under way at every moment. */
async function throughput(call: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  let left = INVOCATIONS;
  const caller = async (): Promise<void> => {
    while (left-- > 0) await call();
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, caller));
  return (INVOCATIONS / (performance.now() - start)) * 1000;
}

function nearly(times: readonly number[]): string {
  const sorted = times.toSorted((a, b) => a - b);
  return (sorted[Math.ceil(sorted.length * 0.9) - 1] ?? Number.NaN).toFixed(2);
}

/** Words in an order that is the same each time. */
function prose(bytes: number): Buffer {
  const words = Array.from({ length: 2000 }, (_, index) => (index * 7919 + 104_729).toString(36));
  let state = 1;
  let text = '';
  while (text.length < bytes) {
    state = (state * 48_271) % 0x7fff_ffff;
    text += `${words[state % words.length]} `;
  }
  return Buffer.from(text.slice(0, bytes));
}

interface Child extends AsyncDisposable {
  /** What it sent when it was ready. */
  readonly message: unknown;
}

/** A process of its own: what the client needs is not part of what the function and the service need. */
async function startChild(file: string, args: readonly string[]): Promise<Child> {
  const child = fork(file, [...args], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const [message] = (await Promise.race([once(child, 'message'), died(child)])) as [unknown];
  return {
    message,
    async [Symbol.asyncDispose]() {
      const closed = once(child, 'close');
      child.send('stop');
      await closed;
    },
  };
}

async function died(child: ChildProcess): Promise<never> {
  const [code] = (await once(child, 'close')) as [number | null];
  throw new Error(`The process ended with exit code ${code}`);
}
