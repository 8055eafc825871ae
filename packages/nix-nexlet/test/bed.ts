import { execFile } from 'node:child_process';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { NatsConnection } from '@nats-io/nats-core';
import { CacheService, NatsCache } from '@nex-nix/cache';
import { silentLogger } from '@nex-nix/nexlet';
import {
  formatPublicKey,
  generateSecretKey,
  LocalStore,
  NixStore,
  type PathSource,
  type PublicKey,
  parseStorePath,
} from '@nex-nix/nix';
import { NixNexlet, type NixNexletOptions } from '@nex-nix/nix-nexlet';
import { type Minter, type Node, startNode } from '@nex-nix/node';
import { followEvents, followLogs, type Lifecycle, NexClient, type WorkloadSummary } from '@nex-nix/protocol';
import { OciRuntime } from '@nex-nix/sandbox';
import {
  findTool,
  type RunningProcess,
  startNatsServer,
  startProcess,
  type TempDir,
  tempDir,
  type TestNatsServer,
  waitFor,
} from '@nex-nix/test-kit';

export const TOOLS = ['nats-server', 'crun', 'busybox', 'nix-build'];

const run = promisify(execFile);
const NIX_CONFIG = 'substituters =\nsandbox = false\nbuild-users-group =';

/** Builds a store path whose `bin/` holds busybox under each of the names. */
async function buildProgram(folder: string, name: string, programs: readonly string[]): Promise<string> {
  const busybox = findTool('busybox');
  const file = join(folder, `${name}.nix`);
  const script = `b=${busybox}; $b mkdir -p $out/bin; for p in ${programs.join(' ')}; do $b cp $b $out/bin/$p; done`;
  await writeFile(
    file,
    `derivation { name = "${name}"; system = builtins.currentSystem; builder = "${busybox}"; args = [ "sh" "-euc" ''${script}'' ]; }\n`,
  );
  const { stdout } = await run('nix-build', ['--no-out-link', file], { env: { ...process.env, NIX_CONFIG } });
  return stdout.trim();
}

/** A NATS server with a cache that holds one store path: a shell. */
export interface Network extends AsyncDisposable {
  readonly server: TestNatsServer;
  readonly dir: TempDir;
  readonly nc: NatsConnection;
  readonly key: PublicKey;
  readonly shell: string;
}

export async function startNetwork(): Promise<Network> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(await tempDir('nex-nexlet-'));
  const server = stack.use(await startNatsServer());
  const nc = await server.connect();
  const service = stack.use(await CacheService.start(nc, { secretKey: generateSecretKey('test-cache') }));
  const shell = await buildProgram(dir.path, 'nexlet-test-shell-1.0', ['sh', 'sleep', 'dd', 'env', 'nc', 'httpd']);
  const cache = await NatsCache.open(nc);
  await cache.push(new NixStore(), [parseStorePath(shell)]);
  const owned = stack.move();
  return {
    server,
    dir,
    nc,
    key: service.publicKey,
    shell,
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

export interface TestNode extends AsyncDisposable {
  readonly node: Node;
  readonly nexlet: NixNexlet;
}

export interface TestNodeOptions extends Partial<NixNexletOptions> {
  nc: NatsConnection;
  stateDir: string;
  key: PublicKey;
  /** Wraps the cache. */
  wrap?: (cache: PathSource) => PathSource;
  minter?: Minter;
}

/** A node with the nexlet in this process, over real parts; what is in the state folder comes first. */
export async function openNode({ nc, stateDir, key, wrap, minter, ...options }: TestNodeOptions): Promise<TestNode> {
  await using stack = new AsyncDisposableStack();
  const runtime = stack.use(await OciRuntime.open({ stateDir: join(stateDir, 'sandboxes') }));
  const store = stack.use(await LocalStore.open({ dir: join(stateDir, 'store') }));
  const cache = await NatsCache.open(nc);
  const nexlet = await NixNexlet.open({
    source: wrap?.(cache) ?? cache,
    store,
    runtimes: { oci: runtime },
    trustedKeys: [key],
    stateDir,
    version: '0.1.0',
    logger: silentLogger,
    ...options,
  });
  const nodeOptions = { name: 'test', stateDir, version: '0.1.0', nexlets: [nexlet.definition] };
  const { logger = silentLogger } = options;
  const node = stack.use(await startNode(nc, { ...nodeOptions, logger, ...(minter === undefined ? {} : { minter }) }));
  const owned = stack.move();
  return { node, nexlet, [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose]() };
}

/**
 * A node in a process of its own, see `node-process.ts`; resolves when it takes workloads. `url`: how it reaches the
 * NATS server.
 */
export async function startNodeProcess(
  { server, key, dir }: Network,
  stateDir: string,
  url = server.url,
): Promise<RunningProcess> {
  const file = join(import.meta.dirname, 'node-process.ts');
  const env = { ...process.env, NODE_COMPILE_CACHE: join(dir.path, 'compile-cache') };
  const node = startProcess(process.execPath, ['--conditions=nexsrc', file, url, stateDir, formatPublicKey(key)], {
    env,
  });
  let ended = false;
  void node.exited.then(() => (ended = true));
  const isReady = () => {
    if (ended) throw new Error(node.output());
    return node.stdout().includes('ready\n');
  };
  await waitFor('the node', isReady, { timeout: 60_000 });
  return node;
}

/** Ends and removes all that nodes have left in a state folder. */
export async function sweep(stateDir: string): Promise<void> {
  await using runtime = await OciRuntime.open({ stateDir: join(stateDir, 'sandboxes') });
  for (const record of await runtime.list()) {
    const sandbox = await runtime.adopt(record);
    await sandbox?.stop({ graceMs: 0 });
    await sandbox?.remove();
  }
}

export interface WorkloadEvent {
  name: string;
  id: string;
  error?: { code: string; message: string };
  restarts?: number;
  next_start?: string;
}

/** Everything that a namespace's feeds said since it was opened. */
export class Feed implements AsyncDisposable {
  readonly lines: { id: string; stream: string; text: string }[] = [];
  readonly events: WorkloadEvent[] = [];
  readonly #abort = new AbortController();
  #listening: Promise<unknown> = Promise.resolve();

  static async open(nc: NatsConnection, namespace: string): Promise<Feed> {
    const feed = new Feed();
    const { signal } = feed.#abort;
    const logs = followLogs(nc, { namespace, signal });
    const events = followEvents(nc, { from: namespace, signal });
    await nc.flush();
    feed.#listening = Promise.all([
      (async () => {
        for await (const { workloadId, stream, data } of logs) {
          feed.lines.push({ id: workloadId, stream, text: Buffer.from(data).toString() });
        }
      })(),
      (async () => {
        for await (const { name, body } of events) feed.events.push({ name, ...(body as Omit<WorkloadEvent, 'name'>) });
      })(),
    ]);
    return feed;
  }

  texts(id: string): string[] {
    return this.lines.filter((line) => line.id === id).map(({ text }) => text);
  }

  /** What its program itself printed: shells tell on stderr what became of their children. */
  printed(id: string): string[] {
    return this.lines.filter((line) => line.id === id && line.stream === 'stdout').map(({ text }) => text);
  }

  async line(id: string, text: string): Promise<void> {
    await waitFor(`the line "${text}"`, () => this.texts(id).includes(text));
  }

  eventsOf(id: string): string[] {
    return this.events.filter((event) => event.id === id).map(({ name }) => name);
  }

  /** What was told of its ends, in their order. */
  endsOf(id: string): WorkloadEvent[] {
    return this.events.filter((event) => event.id === id && event.name === 'WORKLOADSTOPPED');
  }

  async event(id: string, name: string): Promise<WorkloadEvent> {
    return waitFor(`${name} of ${id}`, () => this.events.find((event) => event.id === id && event.name === name));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#listening;
  }
}

/** Places workloads of one namespace and looks at them. */
export class User {
  readonly client: NexClient;
  readonly #shell: string;

  constructor({ nc, shell }: Network, namespace = 'default') {
    this.client = new NexClient(nc, { namespace, stall: 50 });
    this.#shell = shell;
  }

  async start(
    script: string,
    more: Record<string, unknown> = {},
    lifecycle: Lifecycle = 'service',
    environment: Record<string, string> = {},
  ): Promise<string> {
    const runRequest = {
      store_path: this.#shell,
      program: 'bin/sh',
      argv: ['-c', script],
      stop: { grace: '200ms' },
      ...more,
    };
    const { id } = await this.client.startWorkload({ type: 'nix', name: 'job', lifecycle, runRequest, environment });
    return id;
  }

  async find(id: string): Promise<WorkloadSummary | undefined> {
    return (await this.client.listWorkloads({ expected: 1 })).workloads.find((workload) => workload.id === id);
  }

  async state(id: string, wanted: string): Promise<WorkloadSummary> {
    return waitFor(`${id} to be ${wanted}`, async () => {
      const found = await this.find(id);
      return found?.workload_state === wanted && found;
    });
  }
}

/** A port of the loopback interface that nothing listens on. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Process ids of a workload, its program's and those that wait for it. */
export async function processesOf(id: string): Promise<number[]> {
  const found: number[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const cgroups = await readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => '');
    if (cgroups.includes(`/nex-nix/${id}\n`)) found.push(Number(pid));
  }
  return found;
}

/** What of a node's workloads is on this machine: processes and mounts that name its folder, files in its folders. */
export async function leftovers(stateDir: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (command.includes(join(stateDir, 'sandboxes'))) found.push(`process ${pid} ${command.replaceAll('\0', ' ')}`);
  }
  if ((await readFile('/proc/self/mountinfo', 'utf8')).includes(stateDir)) found.push('mount');
  for (const folder of ['sandboxes', 'workloads']) {
    const names = await readdir(join(stateDir, folder)).catch(() => []);
    for (const name of names) if (!(await isEnd(join(stateDir, folder, name)))) found.push(join(folder, name));
  }
  return found;
}

/** Whether a file is the record of a workload that has ended: no more than a memory. */
async function isEnd(file: string): Promise<boolean> {
  if (!file.endsWith('.json')) return false;
  return readFile(file, 'utf8').then(
    (text) => 'end' in (JSON.parse(text) as object),
    () => false,
  );
}
