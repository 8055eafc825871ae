import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { connectNats } from '@nex-nix/nats-context';
import { NexClient } from '@nex-nix/protocol';
import { startNatsServer } from '@nex-nix/test-kit';
import type { Measurement, Row } from '../row.ts';

const CHILD = fileURLToPath(import.meta.resolve('./simulated-nodes.ts'));
const NODES = 100;
const AUCTIONS = 200;
const WARM_UP = 20;

/** Auctions among many nodes: all bids of all nodes are waited for. */
const auction: Row = {
  id: 'node.auction.p99',
  what: `99th percentile of ${AUCTIONS} auctions, one after the other, until the bids of all ${NODES} nodes are in`,
  unit: 'ms',
  wanted: 50,
  async measure(): Promise<Measurement> {
    await using server = await startNatsServer();
    await using nodes = await startNodes(server.url);
    await using nc = await connectNats({ servers: server.url });
    const client = new NexClient(nc);
    const times: number[] = [];
    for (let count = 0; count < WARM_UP + AUCTIONS; count++) {
      const start = performance.now();
      const { bids } = await client.auction({ type: 'map', expected: NODES });
      if (bids.length !== NODES) throw new Error(`${bids.length} of ${NODES} nodes bid`);
      if (count >= WARM_UP) times.push(performance.now() - start);
    }
    const sorted = times.toSorted((a, b) => a - b);
    const percentile = (part: number) => sorted[Math.ceil(sorted.length * part) - 1] ?? Number.NaN;
    const memory = (await nodes.memory()) / 2 ** 20;
    return {
      values: [percentile(0.99)],
      notes: [
        `  p50 ${percentile(0.5).toFixed(1)} ms, p90 ${percentile(0.9).toFixed(1)} ms, slowest ${percentile(1).toFixed(1)} ms`,
        `  ${memory.toFixed(1)} MiB of memory a node, with its nexlet and two connections, ${NODES} in one process`,
      ],
    };
  },
};

export const nodeRows: readonly Row[] = [auction];

interface Nodes extends AsyncDisposable {
  /** Bytes a node. */
  memory(): Promise<number>;
}

/** All nodes in a process of their own: what the client needs is not part of what they need. */
async function startNodes(url: string): Promise<Nodes> {
  const child = fork(CHILD, [url, String(NODES)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  await Promise.race([once(child, 'message'), died(child)]);
  return {
    async memory() {
      child.send('memory');
      const [message] = (await Promise.race([once(child, 'message'), died(child)])) as [{ memory: number }];
      return message.memory;
    },
    async [Symbol.asyncDispose]() {
      const closed = once(child, 'close');
      child.send('stop');
      await closed;
    },
  };
}

async function died(child: ChildProcess): Promise<never> {
  const [code] = (await once(child, 'close')) as [number | null];
  throw new Error(`The process of the nodes ended with exit code ${code}`);
}
