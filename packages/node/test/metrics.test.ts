import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { silentLogger } from '@nex-nix/nexlet';
import { NexClient } from '@nex-nix/protocol';
import { startNatsServer, tempDir, waitFor } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { MetricsServer, type MetricsServerOptions, ProcessMetrics, startNode } from '../src/index.ts';
import { readExposition } from './exposition.ts';
import { memoryNexlet } from './memory-nexlet.ts';

const serve = (options: Partial<MetricsServerOptions>) =>
  MetricsServer.start({
    host: '127.0.0.1',
    port: 0,
    collect: async () => [],
    complaint: () => undefined,
    logger: silentLogger,
    ...options,
  });

describe('the metrics of a node', () => {
  it('tell of the node, its nexlets, auctions, deployments and workloads', async () => {
    await using dir = await tempDir();
    await using server = await startNatsServer({ jetstream: false });
    const nexlet = memoryNexlet();
    const list = nexlet.definition.list.bind(nexlet.definition);
    const metadata = {
      cpu_seconds: '1.5',
      memory_bytes: '4096',
      machine_memory_bytes: '8192',
      sandbox: 'microvm',
      pids: 'many',
      restarts: '2',
      invocations: '3',
      failed_invocations: '1',
      invocation_seconds: '0.25',
      health: 'unhealthy',
    };
    await using node = await startNode(await server.connect(), {
      name: 'n"1',
      stateDir: join(dir.path, 'node'),
      version: '0.1.0',
      nexlets: [
        {
          ...nexlet.definition,
          list: async (options) => (await list(options)).map((workload) => ({ ...workload, metadata })),
        },
      ],
    });
    const client = new NexClient(await server.connect(), { namespace: 'default' });
    const echo = { type: 'memory', name: 'echo', lifecycle: 'service' as const };
    const { id } = await client.startWorkload({ ...echo, runRequest: { program: 'echo' } });
    await expect(client.startWorkload({ ...echo, runRequest: { program: 'echo', fail: true } })).rejects.toThrow();
    using ofProcess = new ProcessMetrics();
    await using metrics = await serve({ collect: async () => [...(await node.metrics()), ...ofProcess.collect()] });
    const response = await fetch(`${metrics.url}/metrics`);
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    const series = readExposition(await response.text());
    const one = `{namespace="default",name="echo",id="${id}",sandbox="microvm"}`;
    expect(Object.fromEntries(series)).toMatchObject({
      [`nex_node_info{id="${node.id}",name="n\\"1",nexus="nexus",version="0.1.0"}`]: 1,
      'nex_node_state{state="running"}': 1,
      'nex_node_state{state="lameduck"}': 0,
      'nex_nexlets{type="memory",health="healthy"}': 1,
      nex_auctions_total: 2,
      nex_bids_total: 2,
      nex_deployments_total: 2,
      nex_deployment_failures_total: 1,
      'nex_workloads{state="running",lifecycle="service",type="memory"}': 1,
      [`nex_workload_cpu_seconds_total${one}`]: 1.5,
      [`nex_workload_memory_bytes${one}`]: 4096,
      [`nex_workload_machine_memory_bytes${one}`]: 8192,
      [`nex_workload_restarts_total${one}`]: 2,
      [`nex_workload_healthy${one}`]: 0,
      [`nex_function_invocations_total${one}`]: 3,
      [`nex_function_failures_total${one}`]: 1,
      [`nex_function_duration_seconds_sum${one}`]: 0.25,
      [`nex_function_duration_seconds_count${one}`]: 3,
    });
    expect(series.has(`nex_workload_processes${one}`)).toBe(false);
    expect(series.get('process_resident_memory_bytes')).toBeGreaterThan(1e6);
    expect(series.get('process_cpu_seconds_total')).toBeGreaterThan(0);
    expect(series.get('nodejs_eventloop_delay_seconds{quantile="0.99"}')).toBeLessThan(10);
  });

  it('a node is not ready as a lame duck, without a connection, and when it has ended', async () => {
    await using dir = await tempDir();
    await using server = await startNatsServer({ jetstream: false });
    await using stack = new AsyncDisposableStack();
    const up = async (name: string) =>
      startNode(await server.connect(), { name, stateDir: join(dir.path, name), version: '0.1.0' });
    const one = stack.use(await up('one'));
    const two = stack.use(await up('two'));
    expect([one.complaint, two.complaint]).toEqual([undefined, undefined]);
    await one.lameduck(60_000);
    expect(one.complaint).toBe('the node is a lame duck');
    await one[Symbol.asyncDispose]();
    expect(one.complaint).toBe('the node is stopping');
    process.kill(server.pid, 'SIGKILL');
    await waitFor('the loss to be seen', () => two.complaint === 'the node has no connection to NATS');
    // What is known without NATS is told all the same.
    expect((await two.metrics()).map(({ name }) => name)).toContain('nex_node_info');
    await server.restart();
    await waitFor('the connection to be back', () => two.complaint === undefined);
  });
});

describe('MetricsServer', () => {
  it('answers /metrics and /healthz, and nothing else', async () => {
    let why: string | undefined;
    const collect = async () => [{ name: 'a', help: 'A.', type: 'gauge' as const, samples: [{ value: 1 }] }];
    await using server = await serve({ collect, complaint: () => why });
    const ask = async (path: string, method = 'GET') => {
      const response = await fetch(server.url + path, { method });
      return [response.status, response.headers.get('content-length'), await response.text()];
    };
    expect(await ask('/healthz')).toEqual([200, '3', 'ok\n']);
    why = 'the node is a lame duck';
    expect(await ask('/healthz')).toEqual([503, '24', 'the node is a lame duck\n']);
    const text = '# HELP a A.\n# TYPE a gauge\na 1\n';
    expect(await ask('/metrics?name=x')).toEqual([200, String(text.length), text]);
    expect(await ask('/metrics', 'HEAD')).toEqual([200, String(text.length), '']);
    expect((await ask('/metrics', 'POST'))[0]).toBe(405);
    expect((await ask('/'))[0]).toBe(404);
    expect((await ask('/metrics/x'))[0]).toBe(404);
  });

  it('collects once for scrapes that come together, and says 500 when that fails', async () => {
    let calls = 0;
    const gate = Promise.withResolvers<void>();
    await using server = await serve({
      async collect() {
        calls++;
        await gate.promise;
        throw new Error('broken');
      },
    });
    const scrapes = [1, 2, 3].map(() => fetch(`${server.url}/metrics`));
    await waitFor('the first scrape', () => calls > 0);
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
    gate.resolve();
    for (const response of await Promise.all(scrapes)) {
      expect(response.status).toBe(500);
      expect(await response.text()).not.toContain('broken');
    }
    await fetch(`${server.url}/metrics`);
    expect(calls).toBeLessThan(4);
  });

  it.each([
    ['127.0.0.1', (port: number) => port, /^Cannot serve metrics on 127\.0\.0\.1:\d+: address in use$/],
    ['192.0.2.1', () => 9, /^Cannot serve metrics on 192\.0\.2\.1:9: this machine does not have that address$/],
  ])('says why it cannot listen on %s', async (host, portOf, message) => {
    await using server = await serve({});
    const port = portOf(Number(new URL(server.url).port));
    await expect(serve({ host, port })).rejects.toMatchObject({
      code: 'NODE_METRICS_FAILED',
      kind: 'failed',
      message: expect.stringMatching(message) as unknown,
      hint: expect.stringContaining('Give') as unknown,
    });
  });

  it('ends while somebody holds a connection', async () => {
    const server = await serve({});
    const { port } = new URL(server.url);
    const socket = connect(Number(port), '127.0.0.1');
    await once(socket, 'connect');
    socket.write('GET /metrics HTTP/1.1\r\n');
    const closed = new Promise((resolve) => socket.on('error', resolve).on('close', resolve));
    await server[Symbol.asyncDispose]();
    await closed;
  });
});
