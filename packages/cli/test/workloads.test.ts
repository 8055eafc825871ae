import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jetstreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/nats-core';
import {
  describeWith,
  startNatsServer,
  startProcess,
  type TempDir,
  tempDir,
  type TestNatsServer,
  waitFor,
} from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { NEX, runNex, startNex } from '../../../test/e2e/nex.ts';
import { expectFailure } from './bed.ts';
import { ScriptedNode } from './scripted-node.ts';

vi.setConfig({ testTimeout: 30_000 });

const REQUEST = '{"store_path":"/nix/store/00000000000000000000000000000000-x","environment":{"PLAIN":"visible"}}';

describeWith(['nats-server'], 'workloads', () => {
  let server: TestNatsServer;
  let folder: TempDir;
  let nc: NatsConnection;
  let node: ScriptedNode;

  beforeAll(async () => {
    server = await startNatsServer();
    folder = await tempDir('nex-cli-');
    const manager = await jetstreamManager(await server.connect());
    await manager.streams.add({ name: 'NEX_FEED', subjects: ['$NEX.FEED.*.logs.>', '$NEX.FEED.*.events.>'] });
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    nc = await server.connect();
    node = new ScriptedNode(nc);
    await nc.flush();
    node.onDeployed = (id, request) => node.event(String(request['namespace']), 'WORKLOADSTARTED', { id });
  });
  afterEach(() => nc.close());

  const home = () => ({ HOME: folder.path });
  const nex = (...args: string[]) => runNex(['-s', server.url, ...args], home());
  const json = async <T>(...args: string[]): Promise<T> => {
    const { code, stdout, stderr } = await nex('--json', ...args);
    expect({ code, stderr }, stdout).toEqual({ code: 0, stderr: '' });
    return JSON.parse(stdout) as T;
  };
  const start = (...args: string[]) =>
    json<{ id: string; name: string }>('workload', 'start', '--name', 'web', '--start-request', REQUEST, ...args);
  /** Runs nex in a folder with a Nexfile. */
  const nexIn = async (name: string, files: Record<string, string>, ...args: string[]) => {
    const cwd = join(folder.path, name);
    await mkdir(cwd);
    for (const [file, text] of Object.entries(files)) await writeFile(join(cwd, file), text);
    const env = { PATH: process.env['PATH'], NO_COLOR: '1', ...home() };
    await using run = startProcess(process.execPath, [NEX, '-s', server.url, ...args], { cwd, env });
    const { code } = await run.exited;
    return { code, stdout: run.stdout(), stderr: run.stderr() };
  };

  describe('start', () => {
    it('prints the sentence of Go nex, and the response as JSON', async () => {
      const text = await nex('workload', 'start', '--name', 'web', '--start-request', REQUEST);
      expect(text).toMatchObject({
        code: 0,
        stdout: expect.stringMatching(/^Workload web \[\w{22}\] successfully started\n$/),
      });
      const started = await start();
      expect(started).toMatchObject({ id: expect.stringMatching(/^\w{22}$/), name: 'web', nodeId: node.id });
    });

    it('seals the environment to the nexlet; nothing of it is on the wire in clear', async () => {
      const seen: string[] = [];
      const spy = await server.connect();
      spy.subscribe('>', { callback: (_error, msg) => void seen.push(msg.string()) });
      await spy.flush();
      await start('--env', 'TOKEN=very-secret', '--tags', 'nex.node=scripted', '--strategy', 'pack');
      const [deployment] = node.deployments;
      expect(node.opened(String(deployment?.['run_request']))).toEqual({ TOKEN: 'very-secret' });
      await spy.flush();
      expect(seen.join('\n')).toContain('/nix/store/00000000000000000000000000000000-x');
      expect(seen.join('\n')).not.toContain('very-secret');
    });

    it('does not send an environment in clear to a nexlet that cannot open it, unless told to', async () => {
      const go = new ScriptedNode(nc, { name: 'go', type: 'native', isOurs: false });
      await nc.flush();
      const args = [
        'workload',
        'start',
        '--type',
        'native',
        '--name',
        'x',
        '--start-request',
        '{}',
        '--env',
        'A=secret',
      ];
      expectFailure(await nex(...args), 4, /error: .*environment/i);
      expect(go.deployments).toEqual([]);
      expect(await nex(...args, '--allow-clear-environment')).toMatchObject({ code: 0 });
      expect(JSON.parse(String(go.deployments[0]?.['run_request']))).toEqual({ environment: { A: 'secret' } });
    });

    it.each([
      [
        'json',
        JSON.stringify({ name: 'n', type: 'nix', lifecycle: 'job', start_request: JSON.parse(REQUEST) as object }),
      ],
      ['yaml', `name: n\ntype: nix\nlifecycle: job\nstart_request: ${REQUEST}\n`],
    ])('reads ./Nexfile in %s when nothing else says what to start; options are stronger', async (kind, text) => {
      const run = await nexIn(kind, { Nexfile: text }, 'workload', 'start', '--description', 'from the command line');
      expect(run).toMatchObject({ code: 0, stderr: '' });
      expect(node.deployments).toMatchObject([
        {
          name: 'n',
          workload_lifecycle: 'job',
          description: 'from the command line',
          run_request: JSON.stringify(JSON.parse(REQUEST)),
        },
      ]);
    });

    it.each([
      ['broken JSON', '{"name":', /Cannot use the Nexfile "Nexfile": it is not JSON/],
      ['broken YAML', 'a: [', /Cannot use the Nexfile "Nexfile": it is neither JSON nor YAML/],
      ['a wrong lifecycle', 'name: n\nlifecycle: often', /the key "lifecycle" must be one of service, job, function/],
      ['no start request', 'name: n', /Cannot start a workload without a start request/],
    ])('a Nexfile with %s: exit code 2', async (name, text, pattern) => {
      expectFailure(await nexIn(`bad ${name}`, { Nexfile: text }, 'workload', 'start'), 2, pattern);
    });

    it('puts options over the start request of a Nexfile, group by group, and says what nodes must have', async () => {
      const request = {
        ...(JSON.parse(REQUEST) as object),
        resources: { memory: '1MiB', pids: 9 },
        health: { tcp: 80 },
      };
      const Nexfile = JSON.stringify({ name: 'n', start_request: request });
      const limits = ['--memory', '64MiB', '--expose', '8080', '--network', 'bridge', '--restart', 'on-failure:2'];
      const run = await nexIn('options', { Nexfile }, 'workload', 'start', ...limits, '--health', 'http://:8080/up');
      expect(run).toMatchObject({ code: 0, stderr: '' });
      const [{ run_request: sent = '', ...deployment } = {}] = node.deployments;
      expect(deployment).toMatchObject({ workload_lifecycle: 'service' });
      expect(JSON.parse(String(sent))).toEqual({
        ...request,
        network: 'bridge',
        expose_ports: [8080],
        resources: { memory: '64MiB', pids: 9 },
        restart: { policy: 'on-failure', max_retries: 2 },
        health: { http: { port: 8080, path: '/up' } },
      });
      expect(node.auctions).toMatchObject([{ needs: { memory: 64 * 2 ** 20, ports: [8080] } }]);
    });

    it('makes a function of what has triggers', async () => {
      await start('--trigger', 'images.*', '--concurrency', '2', '--function-timeout', '5s');
      const [deployment] = node.deployments;
      expect(deployment).toMatchObject({ workload_lifecycle: 'function' });
      const request = JSON.parse(String(deployment?.['run_request'])) as object;
      expect(request).toMatchObject({ triggers: ['images.*'], function: { concurrency: 2, timeout: '5s' } });
    });

    it('refuses what makes no sense before anybody is asked', async () => {
      const refusals: [string[], RegExp][] = [
        [['--health', '8080'], /Cannot take "8080" for a health check.*\nhint: +nats:SUBJECT, tcp:PORT/],
        [['--type', 'native', '--memory', '1MiB'], /Cannot say how a workload of type "native" runs/],
        [['--lifecycle', 'job', '--trigger', 'a'], /Cannot trigger a job/],
      ];
      for (const [args, message] of refusals) {
        expectFailure(await nex('workload', 'start', '--name', 'x', '--start-request', '{}', ...args), 2, message);
      }
      expect(node.auctions).toEqual([]);
    });

    it('comes back as soon as it is listed as running, where the nexlet sends no events', async () => {
      node.onDeployed = undefined;
      const { id } = await start();
      expect([...node.workloads.keys()]).toEqual([id]);
    });

    it('fails with the reason of the node, exit code 1', async () => {
      node.onDeployed = (id, request) =>
        node.event(String(request['namespace']), 'WORKLOADSTOPPED', {
          id,
          error: { code: '1', message: 'no such program' },
        });
      const run = await nex('workload', 'start', '--name', 'web', '--start-request', REQUEST);
      expectFailure(run, 1, /error: Workload "web" \[\w{22}\] did not start: no such program\nhint: .*nex logs/);
      // Who does not wait does not know.
      expect(await nex('workload', 'start', '--no-wait', '--name', 'web', '--start-request', REQUEST)).toMatchObject({
        code: 0,
      });
    });

    it('fails with the reason of a crash loop rather than waiting for what never runs', async () => {
      const error = { code: 'UNHEALTHY', message: 'nobody listens' };
      node.onDeployed = (id) => {
        const body = { id, error, restarts: 3, next_start: '2026-05-01T10:00:00Z' };
        node.event('system', 'WORKLOADRESTARTING', body);
        node.event('system', 'WORKLOADCRASHLOOP', body);
      };
      const run = await nex('workload', 'start', '--name', 'web', '--start-request', REQUEST);
      expectFailure(
        run,
        1,
        /error: Workload "web" \[\w{22}\] is in a crash loop, and goes on being started: nobody listens\nhint: /,
      );
      expect(run.stderr).toMatch(/Workload "web" \[\w{22}\] is started again: nobody listens/);
    });

    it.each([
      ['ends well', undefined, 0],
      ['fails', { code: '3', message: 'exit code 3' }, 1],
    ])(
      '--follow prints the lines of a job; when it %s the command ends with its outcome',
      async (_how, error, code) => {
        node.onDeployed = (id) => {
          node.log('system', id, 'first');
          node.log('system', 'somebodyelse', 'not this one');
          node.event('system', 'WORKLOADSTARTED', { id });
          node.log('system', id, 'last');
          node.event('system', 'WORKLOADSTOPPED', { id, ...(error === undefined ? {} : { error }) });
        };
        const job = ['--lifecycle', 'job', '--name', 'j', '--start-request', REQUEST];
        const run = await nex('workload', 'start', '--follow', ...job);
        expect(run.stdout).toMatch(/^first\nlast\n/);
        expect(run.code).toBe(code);
        if (code === 1) expectFailure(run, 1, /error: Workload "j" \[\w{22}\] has failed: exit code 3/);
      },
    );
  });

  describe('list, info, clone, stop', () => {
    it('list prints the table of Go nex; as JSON an array for each node', async () => {
      const id = node.run('web');
      const table = await nex('workload', 'ls');
      expect(table.stdout).toMatch(/^Running Workloads - system\n/);
      const head = ['Id', 'Name', 'Namespace', 'Start Time', 'Execution Time', 'Type', 'Lifecycle', 'State'];
      expect(table.stdout).toMatch(new RegExp(head.join(' +│ ')));
      expect(table.stdout).toMatch(new RegExp(`${id} │ web +│ system +│ 2026-05-01T10:01:00Z │ -- +│ nix`));
      expect(await json('workloads', 'list')).toMatchObject([[{ id, name: 'web', workload_state: 'running' }]]);
      expect(await json('workload', 'list', '--type', 'native')).toEqual([]);
      expect((await nex('workload', 'list', '--filter', 'other')).stdout).toBe('No workloads found\n');
      const own = await nex('--namespace', 'other', 'workload', 'list', '--show-metadata');
      expect(own.stdout).toBe('No workloads found\n');
    });

    it('info shows what is known, and of the environment the names only', async () => {
      const { id } = await start('--env', 'TOKEN=very-secret');
      const { stdout } = await nex('workload', 'info', 'web');
      for (const line of [
        `Information about Workload ${id}`,
        'Exit Code: 3',
        'Reason: for a test',
        `Node: scripted (${node.id})`,
        'Store Path: /nix/store/x',
      ]) {
        expect(stdout).toContain(line);
      }
      node.metadata = { restarts: '2', health: 'unhealthy', health_failure: 'refused', memory_bytes: '2097152' };
      const usage = await nex('workload', 'info', 'web');
      for (const line of ['Restarts: 2', 'Health: unhealthy: refused', 'Memory: 2.0 MiB']) {
        expect(usage.stdout).toContain(line);
      }
      expect(await json('workload', 'info', 'web')).toMatchObject({ metadata: { memory_bytes: '2097152' } });
      const listed = 'running (unhealthy, exit code 3, 2 restarts): for a test';
      expect((await nex('workload', 'list')).stdout).toContain(listed);
      expect(stdout).toMatch(/"PLAIN": "\*\*\*"[\s\S]*"encrypted_environment": "sealed"/);
      const value = JSON.stringify(await json('workload', 'info', id));
      expect(value).toContain('"node":{"id":');
      expect(stdout + value).not.toMatch(/visible|very-secret|base64/);
    });

    it('clone starts it once more with its sealed environment, and stops the original when told to', async () => {
      const { id } = await start('--env', 'TOKEN=very-secret');
      const { stdout, code } = await nex('workload', 'copy', '--stop', id);
      expect(code).toBe(0);
      expect(stdout).toMatch(/^Workload web \[\w{22}\] successfully started\nOriginal workload \[\w{22}\] stopped\n$/);
      expect([...node.workloads.keys()]).not.toContain(id);
      expect(node.opened(String(node.deployments[1]?.['run_request']))).toEqual({ TOKEN: 'very-secret' });
    });

    it('stop takes an id or a name, and is not done when there is none or several', async () => {
      const [first, second] = [node.run('web'), node.run('web')];
      expectFailure(await nex('stop', 'web'), 2, new RegExp(`2 have that name\nhint: .*${first}`));
      expect(await nex('workload', 'undeploy', first)).toEqual({
        code: 0,
        stdout: `Workload ${first} successfully stopped\n`,
        stderr: '',
      });
      expect(await json('stop', 'web')).toEqual({ id: second, message: '', stopped: true, workload_type: 'nix' });
      expectFailure(await nex('workload', 'stop', 'web'), 3, /Cannot find workload "web": no node runs it/);
      expectFailure(await nex('workload', 'stop', first), 3, new RegExp(`Cannot find workload "${first}"`));
      node.run('web');
      node.run('web', 'other');
      expect(await json<unknown[]>('stop', '--all', 'web')).toHaveLength(2);
    });
  });

  describe('nodes', () => {
    it('info takes an id or a name, and has the columns of Go nex with and without --full', async () => {
      const short = await nex('node', 'info', 'scripted');
      expect(short.stdout).toContain(`Information about Node ${node.id}\n`);
      expect(short.stdout).toMatch(/│ +│ Name +│ Workload Type │ Running Workloads │/);
      expect(short.stdout).toMatch(/│ 🟢 +│ nix \[9\.8\.7\] │ nix/);
      const { stdout } = await nex('node', 'info', '--full', node.id);
      expect(stdout).toMatch(/│ Health +│ Id +│ Name +│ Workload Type │ Start Time +│ State/);
      expect(stdout).toContain('🟢 [healthy]');
      expectFailure(await nex('node', 'info', 'nobody'), 3, /Cannot find node "nobody"/);
    });

    it('lameduck sends a Go duration and the tags', async () => {
      const run = await nex('node', 'down', '--delay', '90s', '--tag', 'a=b', 'scripted');
      expect(run.stdout).toMatch(
        /^Node successfully commanded into lame duck mode\. Workloads will begin shutting down at \d{4}-\S+Z\n$/,
      );
      expect(node.lameducks).toEqual([{ delay: '1m30s', tag: { a: 'b' } }]);
    });
  });

  describe('logs and events', () => {
    it('logs prints what is kept and ends; -f goes on; a name will do while it runs, the id ever after', async () => {
      const id = node.run('web');
      for (const line of ['one', 'two', 'three']) node.log('system', id, line);
      await nc.flush();
      expect((await nex('logs', 'web')).stdout).toBe('one\ntwo\nthree\n');
      expect((await nex('logs', id, '--tail', '1')).stdout).toBe('three\n');
      expect((await nex('logs', id, '--since', '1h', '--timestamps')).stdout).toMatch(/^\d{4}-\S+Z one\n/);
      const [entry] = (await nex('--json', 'logs', id)).stdout.split('\n');
      expect(JSON.parse(entry ?? '')).toMatchObject({
        workload: id,
        stream: 'stdout',
        line: 'one',
        time: expect.any(String),
      });

      await using following = startNex(['-s', server.url, 'logs', '-f', 'web'], home());
      await waitFor('the kept lines', () => following.stdout().includes('three'));
      node.log('system', id, 'four');
      await waitFor('the new line', () => following.stdout().includes('four'));
      following.kill('SIGINT');
      expect(await following.exited).toMatchObject({ code: 0 });
      expect(following.stdout()).toBe('one\ntwo\nthree\nfour\n');

      expect(await nex('stop', id)).toMatchObject({ code: 0 });
      expect((await nex('logs', id)).stdout).toBe('one\ntwo\nthree\nfour\n');
      expectFailure(await nex('logs', 'web'), 3, /Cannot find workload "web".*\nhint: .*id/);
    });

    it('events prints what is kept, all of it for the namespace system', async () => {
      node.event('elsewhere', 'WORKLOADSTOPPED', { id: 'abc' });
      node.event(node.id, 'NODESTARTED', { id: node.id });
      await nc.flush();
      expect((await nex('events')).stdout).toMatch(/Z elsewhere WORKLOADSTOPPED \{"id":"abc"\}\n.* NODESTARTED /);
      expect((await nex('--namespace', 'elsewhere', 'events')).stdout.trim().split('\n')).toHaveLength(1);
      expect((await nex('events', '--tail', '1')).stdout).toMatch(/^\S+ N\w+ NODESTARTED \{.*\}\n$/);
      const { stdout } = await nex('--json', 'events', '--name', 'WORKLOADSTOPPED', 'elsewhere');
      expect(JSON.parse(stdout)).toMatchObject({ from: 'elsewhere', name: 'WORKLOADSTOPPED', body: { id: 'abc' } });
    });
  });
});
