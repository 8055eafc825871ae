import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describeWith, startNatsServer, type TempDir, tempDir, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { runNex, startNex } from '../../../test/e2e/nex.ts';
import { readExposition } from '../../node/test/exposition.ts';
import { expectFailure } from './bed.ts';

vi.setConfig({ testTimeout: 30_000 });

describeWith(['nats-server', 'crun'], 'running a node', () => {
  let folder: TempDir;
  let server: TestNatsServer;

  beforeAll(async () => {
    folder = await tempDir('nex-ops-');
    server = await startNatsServer();
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  it('serves its metrics and its health where it is told to, and keeps others off its state folder', async () => {
    const stateDir = join(folder.path, 'one');
    const up = ['-s', server.url, '--json', 'node', 'up', '--node-name', 'n1', '--state-dir', stateDir];
    await using node = startNex([...up, '--metrics-port', '0']);
    await waitFor('the node', () => node.output().includes('nex node ready'), { timeout: 20_000 });
    const [url = ''] = /http:[^"]+(?=\/metrics)/.exec(node.output()) ?? [];
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    const series = readExposition(await (await fetch(`${url}/metrics`)).text());
    expect(Object.fromEntries(series)).toMatchObject({
      'nex_node_state{state="running"}': 1,
      'nex_nexlets{type="nix",health="healthy"}': 1,
      nex_store_paths: 0,
      nex_closure_fetched_bytes_total: 0,
    });
    expect([...series.keys()].some((key) => key.startsWith('nex_cache_requests_total{'))).toBe(true);
    expect((await fetch(`${url}/healthz`)).status).toBe(200);

    const inUse = /Cannot use the state folder ".*one": a node runs on it\nhint: +Stop that node first/;
    expectFailure(await runNex(['clean', '--state-dir', stateDir]), 4, inUse);
    expectFailure(await runNex(['-s', server.url, 'node', 'up', '--state-dir', stateDir]), 4, inUse);
    process.kill(server.pid, 'SIGKILL');
    await waitFor('the loss to be seen', async () => (await fetch(`${url}/healthz`)).status === 503);
    await server.restart();
    await waitFor('it to be well again', async () => (await fetch(`${url}/healthz`)).status === 200);
    node.kill('SIGKILL');
    await node.exited;
    // Whoever holds the lock is gone, however it went.
    const { code, stdout } = await runNex(['--json', 'clean', '--dry-run', '--state-dir', stateDir]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ stateDir, dryRun: true });
  });

  it('says that the port of the metrics is taken, and ends with 1', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const up = ['-s', server.url, 'node', 'up', '--state-dir', join(folder.path, 'two')];
    const run = await runNex([...up, '--metrics-port', String(port)]);
    other.close();
    expectFailure(run, 1, new RegExp(`Cannot serve metrics on 127.0.0.1:${port}: address in use\nhint: +Give another`));
  });

  it.each([
    [['--metrics-port', '70000'], /Cannot take "70000" for a port/],
    [['--workload-network', 'vlan'], /Allowed choices are bridge, host, none/],
    [['--workload-memory', '0MiB'], /Cannot take "0MiB" for a size/],
    [['--workload-cpus', '-1'], /Cannot take "-1" for a number of processors/],
    [['--bridge-subnet', '10.0.0.0'], /Cannot take "10.0.0.0" for a subnet/],
    [['--bridge-name', 'a/b'], /Cannot take "a\/b" for an interface/],
    [
      ['--sandbox', 'microvm'],
      /Cannot run virtual machines without a guest image\nhint: +Build one by nex guest build/,
    ],
    [['--sandboxes', 'oci,vm'], /Cannot take "oci,vm" for kinds of sandboxes/],
  ])('refuses %j', async (options, message) => {
    expectFailure(await runNex(['node', 'up', '--state-dir', join(folder.path, 'bad'), ...options]), 2, message);
  });

  it('clean says when there is no such folder, and when nothing is left over', async () => {
    const nowhere = join(folder.path, 'nowhere');
    expectFailure(await runNex(['clean', '--state-dir', nowhere]), 3, /Cannot clean ".*nowhere": there is no such/);
    const empty = join(folder.path, 'empty');
    await mkdir(empty);
    const { code, stdout } = await runNex(['--json', 'clean', '--dry-run', '--state-dir', empty]);
    expect(code).toBe(0);
    const { leftovers } = JSON.parse(stdout) as { leftovers: { kind: string; name: string }[] };
    // Others may have left something on this machine, but nothing of a sandbox of this folder.
    expect(leftovers.filter(({ kind, name }) => kind === 'sandbox' || name.includes(empty))).toEqual([]);
  });
});
