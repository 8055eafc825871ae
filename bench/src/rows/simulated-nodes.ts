// A process with many nodes, each with a nexlet that keeps its workloads in a map; for the bench of auctions.
// Arguments: URL of the NATS server, number of nodes. Answers the message "memory" with its resident memory in bytes.
import { tmpdir } from 'node:os';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { connectNats } from '@nex-nix/nats-context';
import type { NexletDefinition } from '@nex-nix/nexlet';
import { startNode } from '@nex-nix/node';

const [url = '', count = ''] = process.argv.slice(2);
await using stack = new AsyncDisposableStack();
const dir = await mkdtemp(join(tmpdir(), 'nex-bench-nodes-'));
stack.defer(() => rm(dir, { recursive: true, force: true }));
const before = process.memoryUsage.rss();
await Promise.all(Array.from({ length: Number(count) }, (_, index) => startOne(`node-${index}`)));
process.send?.({ ready: true });
for await (const message of messages()) {
  if (message === 'stop') break;
  process.send?.({ memory: (process.memoryUsage.rss() - before) / Number(count) });
}
process.disconnect();

async function startOne(name: string): Promise<void> {
  const nc = await connectNats({ servers: url });
  stack.defer(() => nc.close());
  stack.use(
    await startNode(nc, { name, stateDir: join(dir, name), version: '1.0.0', servers: [url], nexlets: [mapNexlet()] }),
  );
}

function mapNexlet(): NexletDefinition {
  const requests = new Map();
  return {
    name: 'map',
    type: 'map',
    version: '1.0.0',
    lifecycles: ['service'],
    startRequestSchema: { type: 'object' },
    async start({ workloadId, request }) {
      requests.set(workloadId, request);
      return { id: workloadId, name: request.name };
    },
    stop: async (id) => requests.delete(id),
    get: async (id) => requests.get(id),
    list: async () => [],
    bid: async () => ({ workloads: requests.size, siblings: 0, missing_bytes: 0 }),
  };
}

async function* messages(): AsyncGenerator<unknown, void> {
  const queue: unknown[] = [];
  let wake = Promise.withResolvers<void>();
  process.on('message', (message) => {
    queue.push(message);
    wake.resolve();
  });
  for (;;) {
    if (queue.length > 0) yield queue.shift();
    else {
      await wake.promise;
      wake = Promise.withResolvers<void>();
    }
  }
}
