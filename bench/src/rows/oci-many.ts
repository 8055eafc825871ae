import { setTimeout as delay } from 'node:timers/promises';
import type { Measurement, Row } from '../row.ts';
import { type RealNode, startRealNode } from './real-node.ts';

const MANY = 200;
const IDLE = 50;
/** How long an idle node is watched, in milliseconds. */
const WATCHED = 30_000;
/** Until what was started has settled, in milliseconds. */
const SETTLED = 10_000;
const MIB = 2 ** 20;

const memory: Row = {
  id: 'oci.200.rss',
  what: `memory of a node with ${MANY} services, from the first start to the last stop; listed, and none left over`,
  unit: 'MiB',
  wanted: 200,
  async measure(): Promise<Measurement> {
    await using node = await startRealNode();
    const before = (await node.rss()) / MIB;
    await using samples = new Samples(async () => (await node.rss()) / MIB);
    const [startMs, ids] = await timed(() => node.startServices(MANY));
    await delay(SETTLED);
    const settled = (await node.rss()) / MIB;
    const { count, pss } = await node.supervisors();
    const [listMs, listed] = await timed(async () => (await node.client.listWorkloads()).workloads.length);
    if (listed !== MANY) throw new Error(`${listed} of ${MANY} services are listed`);
    const [stopMs] = await timed(() => node.stopServices(ids));
    const values = await samples.take();
    await requireNothingLeft(node, ids);
    const peak = (await node.peakRss()) / MIB;
    const after = (await node.rss()) / MIB;
    return {
      values,
      notes: [
        `  before ${before.toFixed(0)}, with all of them running ${settled.toFixed(0)}, after ${after.toFixed(0)}, at most ${peak.toFixed(0)} MiB`,
        `  started in ${seconds(startMs)} (${perOne(startMs)} each), listed in ${listMs.toFixed(0)} ms, stopped in ${seconds(stopMs)} (${perOne(stopMs)} each)`,
        `  ${count} processes wait beside the sandboxes: ${(pss / MIB).toFixed(0)} MiB, shared pages divided (PSS)`,
      ],
    };
  },
};

const idle: Row = {
  id: 'oci.50.idle',
  what: `processor time of a node with ${IDLE} services that do nothing, over ${WATCHED / 1_000} s, of one core`,
  unit: '%',
  wanted: 2,
  async measure(): Promise<Measurement> {
    await using node = await startRealNode();
    const alone = await percent(WATCHED / 2, () => node.cpu());
    const ids = await node.startServices(IDLE);
    await delay(SETTLED);
    const beside = await node.supervisors();
    const value = await percent(WATCHED, () => node.cpu());
    const waiting = ((await node.supervisors()).cpu - beside.cpu) / WATCHED;
    await node.stopServices(ids);
    await requireNothingLeft(node, ids);
    return {
      values: [value],
      notes: [
        `  the same node without a service: ${alone.toFixed(2)} %`,
        `  ${beside.count} processes beside the sandboxes: ${(waiting * 100).toFixed(2)} %`,
      ],
    };
  },
};

export const ociManyRows: readonly Row[] = [memory, idle];

async function requireNothingLeft(node: RealNode, ids: readonly string[]): Promise<void> {
  const { workloads } = await node.client.listWorkloads();
  const left = [...workloads.map(({ id }) => `workload ${id}`), ...(await node.leftovers(ids))];
  if (left.length > 0) throw new Error(`Left over:\n${left.join('\n')}`);
}

/** A figure, read twice a second until it is taken. */
class Samples implements AsyncDisposable {
  readonly #values: number[] = [];
  readonly #end = new AbortController();
  readonly #reading: Promise<void>;

  constructor(read: () => Promise<number>) {
    this.#reading = this.#read(read);
  }

  async take(): Promise<readonly number[]> {
    await this[Symbol.asyncDispose]();
    return this.#values;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await this.#reading;
  }

  async #read(read: () => Promise<number>): Promise<void> {
    while (!this.#end.signal.aborted) {
      this.#values.push(await read());
      await Promise.race([delay(500), new Promise((resolve) => this.#end.signal.addEventListener('abort', resolve))]);
    }
  }
}

/** How much of one core a processor time grows by meanwhile. */
async function percent(ms: number, cpu: () => Promise<number>): Promise<number> {
  const [before, begin] = [await cpu(), performance.now()];
  await delay(ms);
  return (((await cpu()) - before) / (performance.now() - begin)) * 100;
}

async function timed<T>(action: () => Promise<T>): Promise<[ms: number, result: T]> {
  const begin = performance.now();
  const result = await action();
  return [performance.now() - begin, result];
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

function perOne(ms: number): string {
  return `${(ms / MANY).toFixed(0)} ms`;
}
