import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { NatsConnection } from '@nats-io/nats-core';
import { connectNats } from '@nex-nix/nats-context';
import { agentSubjects, ANY, followLogs, lastToken, NexClient } from '@nex-nix/protocol';
import { findTool, startNatsServer, tempDir, waitFor } from '@nex-nix/test-kit';
import { median, type Measurement, type Row } from '../row.ts';

const NODE = fileURLToPath(import.meta.resolve('./oci-node.ts'));
const NAMESPACE = 'default';
const WARM_UP = 5;

/** Pause between two measurements, in milliseconds: what the one before left to do is done then. */
const PAUSE = 60;

/**
 * From the start request, as the nexlet receives it, to the first line that the program prints, on the feed; over a NATS
 * server, with the closure in the node's store. Against bare crun, until it prints the same. What comes before (the
 * deployment: credentials are minted, and what is to run is written down) is in the notes.
 */
const start: Row = {
  id: 'oci.start',
  what: 'start request received for a present store path of 4 paths, until its first line of output is on the feed',
  unit: 'ms',
  peer: 'bare `crun run` of the same bundle, until its first byte',
  wanted: 1.5,
  async measure(): Promise<Measurement> {
    await using bench = await openBench(4);
    const values: number[] = [];
    const peerValues: number[] = [];
    const deployed: number[] = [];
    for (let run = 0; run < WARM_UP + 60; run++) {
      const peer = await bench.bare();
      const { fromStart, fromDeployment } = await bench.start();
      if (run < WARM_UP) continue;
      peerValues.push(peer);
      values.push(fromStart);
      deployed.push(fromDeployment);
    }
    const ratio = percentile(values, 0.99) / percentile(peerValues, 0.99);
    return {
      values,
      peerValues,
      notes: [
        `  ${spread('through the nexlet', values)}`,
        `  ${spread('from the request to the node to deploy it', deployed)}: ${(median(deployed) / median(peerValues)).toFixed(2)} of bare crun`,
        `  ${spread('bare crun', peerValues)}`,
        `  p99 against p99: ${ratio.toFixed(2)} (wanted: 3); against the median: ${(percentile(values, 0.99) / median(peerValues)).toFixed(2)}`,
      ],
    };
  },
};

const start300: Row = {
  id: 'oci.start.300',
  what: 'the same with a closure of 300 paths',
  unit: 'ms',
  peer: 'the same with 4 paths',
  wanted: 2,
  async measure(): Promise<Measurement> {
    await using many = await openBench(300);
    await using few = await openBench(4);
    const values: number[] = [];
    const peerValues: number[] = [];
    const bare: number[] = [];
    for (let run = 0; run < WARM_UP + 30; run++) {
      const { fromStart: peer } = await few.start();
      const { fromStart: value } = await many.start();
      const crun = await many.bare();
      if (run < WARM_UP) continue;
      peerValues.push(peer);
      values.push(value);
      bare.push(crun);
    }
    return {
      values,
      peerValues,
      notes: [
        `  ${spread('300 paths', values)}`,
        `  ${spread('4 paths', peerValues)}`,
        `  ${spread('bare crun with 300 paths', bare)}`,
      ],
    };
  },
};

export const ociStartRows: readonly Row[] = [start, start300];

interface Bench extends AsyncDisposable {
  /** Starts a workload; milliseconds until its first line: since its nexlet was asked, and since its node was. */
  start(): Promise<{ fromStart: number; fromDeployment: number }>;
  /** Runs bare crun on the bundle of such a workload; milliseconds until its first byte. */
  bare(): Promise<number>;
}

async function openBench(paths: number): Promise<Bench> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(await tempDir('nex-bench-'));
  // As the folder of a node is: sandboxes are below it.
  await chmod(dir.path, 0o755);
  const server = stack.use(await startNatsServer());
  const child = fork(NODE, [server.url, dir.path, String(paths)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  stack.defer(() => stop(child));
  const [{ storePath }] = (await Promise.race([once(child, 'message'), died(child)])) as [{ storePath: string }];
  const nc = await connectNats({ servers: server.url });
  stack.defer(() => nc.close());
  const client = new NexClient(nc, { namespace: NAMESPACE });
  const bundle = join(dir.path, 'bare');
  await takeBundle(client, { storePath, sandboxes: join(dir.path, 'sandboxes'), bundle });
  const lines = new FirstLines(nc);
  stack.defer(() => lines.stop());
  await nc.flush();
  const owned = stack.move();
  return {
    start: () => startOne(client, storePath, lines),
    bare: () => bareCrun(bundle, dir.path),
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

async function startOne(client: NexClient, storePath: string, lines: FirstLines) {
  await delay(PAUSE);
  const { bids } = await client.auction({ type: 'nix', expected: 1 });
  const [bid] = bids;
  if (bid === undefined) throw new Error('The node does not bid');
  const request = requestOf('echo', storePath, ['hello']);
  const begin = performance.now();
  const { id } = await client.deploy(bid, request);
  const line = await lines.of(id);
  return { fromStart: line - lines.requested(id), fromDeployment: line - begin };
}

function requestOf(program: string, storePath: string, argv: readonly string[]) {
  return {
    description: '',
    name: program,
    namespace: NAMESPACE,
    tags: {},
    workload_lifecycle: 'job' as const,
    workload_type: 'nix',
    run_request: JSON.stringify({ store_path: storePath, program: `bin/${program}`, argv, network: 'none' }),
  };
}

/** When the start of each workload was requested, and when its first line came. */
class FirstLines {
  readonly #times = new Map<string, PromiseWithResolvers<number>>();
  readonly #requests = new Map<string, number>();
  readonly #abort = new AbortController();
  readonly #listening: Promise<void>;

  constructor(nc: NatsConnection) {
    const callback = (_error: Error | null, { subject }: { subject: string }) => {
      this.#requests.set(lastToken(subject), performance.now());
    };
    nc.subscribe(agentSubjects.startWorkload(ANY, ANY, ANY), { callback });
    this.#listening = this.#listen(nc);
  }

  of(id: string): Promise<number> {
    return this.#entry(id).promise;
  }

  requested(id: string): number {
    return this.#requests.get(id) ?? Number.NaN;
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#listening;
  }

  async #listen(nc: NatsConnection): Promise<void> {
    for await (const { workloadId } of followLogs(nc, { namespace: NAMESPACE, signal: this.#abort.signal })) {
      this.#entry(workloadId).resolve(performance.now());
    }
  }

  #entry(id: string): PromiseWithResolvers<number> {
    const entry = this.#times.get(id) ?? Promise.withResolvers<number>();
    this.#times.set(id, entry);
    return entry;
  }
}

/** Copies the bundle of a running workload; the configuration as the runtime has it, with its environment put back. */
async function takeBundle(
  client: NexClient,
  { storePath, sandboxes, bundle }: { storePath: string; sandboxes: string; bundle: string },
): Promise<void> {
  const [bid] = (await client.auction({ type: 'nix', expected: 1 })).bids;
  if (bid === undefined) throw new Error('The node does not bid');
  const { id } = await client.deploy(bid, requestOf('sleep', storePath, ['1000']));
  const { workload_state: running } = await waitFor('the workload to run', async () => {
    const { workloads } = await client.listWorkloads({ expected: 1 });
    return workloads.find((workload) => workload.id === id && workload.workload_state === 'running');
  });
  if (running === undefined) throw new Error('The workload does not run');
  const [folder = ''] = (await readdir(sandboxes)).filter((name) => !name.startsWith('.'));
  const kept = await readFile(join(sandboxes, folder, 'runtime', folder, 'config.json'), 'utf8');
  const config = JSON.parse(kept) as { process: Record<string, unknown>; mounts: { source: string }[] };
  config.process = { ...config.process, args: [`${storePath}/bin/echo`, 'hello'], env: ['HOME=/tmp'] };
  config.mounts = config.mounts.filter(({ source }) => !source.startsWith(sandboxes));
  await mkdir(bundle);
  await cp(join(sandboxes, folder, 'bundle', 'rootfs'), join(bundle, 'rootfs'), { recursive: true });
  await writeFile(join(bundle, 'config.json'), JSON.stringify(config));
  await client.stopWorkload(id);
}

/** With the mount taken out of its sight that it does not run with, where there is one. */
async function bareCrun(bundle: string, folder: string): Promise<number> {
  await delay(PAUSE);
  const crun = [findTool('crun') ?? 'crun', '--root', join(folder, 'crun'), '--cgroup-manager', 'disabled'];
  const run = [...crun, 'run', '--bundle', bundle, 'bare'];
  const isHybrid = (await readFile('/proc/self/mountinfo', 'utf8')).match(/^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 /m);
  const hasV1 = / - cgroup /.test(await readFile('/proc/self/mountinfo', 'utf8'));
  const wrapper =
    isHybrid === null || !hasV1 ? [] : ['unshare', '--mount', 'sh', '-c', 'umount "$0"; exec "$@"', isHybrid[1] ?? ''];
  const [command = '', ...args] = [...wrapper, ...run];
  const begin = performance.now();
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'], env: { PATH: process.env['PATH'] } });
  const closed = once(child, 'close');
  await once(child.stdout, 'data');
  const time = performance.now() - begin;
  await closed;
  return time;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const closed = once(child, 'close');
  child.send('stop');
  await closed;
}

async function died(child: ChildProcess): Promise<never> {
  const [code] = (await once(child, 'close')) as [number | null];
  throw new Error(`The node ended with exit code ${code}`);
}

function percentile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * part) - 1] ?? Number.NaN;
}

function spread(what: string, values: readonly number[]): string {
  const figures = [0.5, 0.9, 0.99].map((part) => `p${part * 100} ${percentile(values, part).toFixed(1)}`);
  return `${what}: ${figures.join(', ')} ms`;
}
