import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  connectDevServices,
  type DevControls,
  DevServices,
  type ServiceName,
  type ServiceStatus,
} from '@nex-nix/devenv';
import { connectNats } from '@nex-nix/nats-context';
import { NexClient } from '@nex-nix/protocol';
import { describeWith, type RunningProcess, startProcess, tempDir, waitFor } from '@nex-nix/test-kit';
import { expect, it, vi } from 'vitest';
import { NEX } from '../../../test/e2e/nex.ts';

vi.setConfig({ testTimeout: 180_000 });

const FIXTURE = join(import.meta.dirname, 'fixtures/hold-dev-services.ts');
const READY = { timeout: 60_000 };

/** Dev services in a process of their own. */
function hold(options: object): RunningProcess {
  return startProcess(process.execPath, ['--conditions=nexsrc', FIXTURE, JSON.stringify(options)]);
}

async function untilReady(held: RunningProcess): Promise<void> {
  const ended = held.exited.then(({ code, signal }) =>
    Promise.reject(new Error(`${code ?? signal}: ${held.output()}`)),
  );
  await Promise.race([waitFor('the services', () => held.output().includes('ready'), READY), ended]);
}

async function statusOf(controls: DevControls, name: ServiceName): Promise<ServiceStatus> {
  const found = (await controls.status()).services.find((service) => service.name === name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found;
}

/** One that has just gone is as good. */
function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Kills a service, and returns its status when it is ready again. */
async function killAndWait(controls: DevControls, name: ServiceName): Promise<ServiceStatus> {
  const { pid = 0, restarts } = await statusOf(controls, name);
  const watching = controls.watch(AbortSignal.timeout(READY.timeout));
  kill(pid);
  for await (const { services } of watching) {
    const found = services.find((service) => service.name === name);
    if (found !== undefined && found.restarts > restarts && found.state === 'ready') return found;
  }
  throw new Error(`${name} was not started again`);
}

/** Processes that have the folder on their command line. */
function processesOn(folder: string): string[] {
  return readdirSync('/proc').flatMap((pid) => {
    const file = `/proc/${pid}/cmdline`;
    if (!/^\d+$/.test(pid) || !existsSync(file)) return [];
    try {
      const command = readFileSync(file, 'utf8');
      return command.includes(folder) ? [`${pid} ${command.replaceAll('\0', ' ')}`] : [];
    } catch (error) {
      if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
      throw error;
    }
  });
}

describeWith(['nats-server', 'crun'], 'dev services with cache and node', () => {
  it('are seen and steered from another process, survive the kill of each, and leave nothing when they end', async () => {
    await using dir = await tempDir();
    // Longer than the address of a Unix socket may be.
    const dataDir = join(dir.path, 'a'.repeat(120));
    const options = { dataDir, command: [process.execPath, NEX], node: true };
    await using holder = hold(options);
    const controls = await waitFor('the socket', async () => connectDevServices(dataDir).catch(() => undefined), READY);
    expect((await stat(join(dataDir, 'dev.sock'))).mode & 0o777).toBe(0o600);
    // The start itself can be watched.
    const states: string[] = [];
    for await (const { services } of controls.watch()) {
      states.push(services.map(({ state }) => state).join(' '));
      if (states.at(-1) === 'ready done ready ready') break;
    }
    expect(states[0]).toMatch(/waiting/);
    const { pid, environment } = await controls.status();
    expect(pid).toBe(holder.pid);
    const nc = await connectNats({ context: 'ExpNode', configDir: dataDir });
    await using _nc = { [Symbol.asyncDispose]: () => nc.close() };
    const nodes = async () => (await new NexClient(nc).pingNodes()).nodes.map((node) => node.node_id);
    const [id = ''] = await nodes();
    const info = `${environment['BINARY_CACHE_URL']}/nix-cache-info`;

    const lines: string[] = [];
    const stop = new AbortController();
    const following = (async () => {
      for await (const { text } of controls.logs({ follow: true, tail: 0, signal: stop.signal })) lines.push(text);
    })();
    const nats = await killAndWait(controls, 'nats');
    expect(nats.url).toBe(environment['NATS_URL']);
    await waitFor('the node to be back', async () => (await nodes()).includes(id), READY);
    expect((await fetch(`${environment['BINARY_CACHE_URL']}/${'0'.repeat(32)}.narinfo`)).status).toBe(404);
    for (const name of ['cache', 'node'] as const) expect((await statusOf(controls, name)).restarts).toBe(0);

    await Promise.all([killAndWait(controls, 'cache'), killAndWait(controls, 'node')]);
    expect((await fetch(info)).status).toBe(200);
    expect(await nodes()).toEqual([id]);
    expect(lines.filter((text) => text === 'ended with SIGKILL; starting it again in 100 ms')).toHaveLength(3);
    await controls.restart('accounts');
    expect(await statusOf(controls, 'accounts')).toMatchObject({ state: 'done', restarts: 0 });
    await expect(controls.restart('web' as ServiceName)).rejects.toMatchObject({
      code: 'DEVENV_SERVICE_UNKNOWN',
      kind: 'not-found',
    });
    stop.abort();
    await following;

    holder.kill('SIGKILL');
    await holder.exited;
    await expect(connectDevServices(dataDir)).rejects.toMatchObject({
      code: 'DEVENV_NOT_RUNNING',
      message: `Cannot reach dev services in "${dataDir}": none run there`,
    });
    await waitFor('cache and node to end', () => processesOn(dataDir).length === 1, READY);
    await using again = hold(options);
    await untilReady(again);
    const second = await connectDevServices(dataDir);
    expect((await second.status()).environment).toEqual(environment);
    expect(await nodes()).toEqual([id]);
    const log = await Array.fromAsync(second.logs(), ({ text }) => text);
    expect(log).toContain(`ended process ${nats.pid}, which an earlier run had left`);
    expect(log.indexOf('INFO nex node stopping')).toBe(-1);

    await nc.close();
    const watched = Array.fromAsync(second.watch());
    await second.down();
    expect((await watched).at(-1)?.services.map(({ state }) => state)).toEqual(Array(4).fill('stopped'));
    expect(await again.exited).toEqual({ code: 0, signal: null });
    expect(processesOn(dataDir)).toEqual([]);
    expect(existsSync(join(dataDir, 'dev.sock'))).toBe(false);
  });
});

describeWith(['nats-server'], 'dev services', () => {
  it('say who holds the port of nats-server when it comes to be taken, and go on when it is free', async () => {
    await using dir = await tempDir();
    await using services = await DevServices.start({ dataDir: dir.path, port: 0, monitorPort: 0 });
    const { port } = services;
    const program = `
      const server = require('node:net').createServer();
      server.on('error', () => setTimeout(listen, 1)).on('listening', () => console.log('holds'));
      const listen = () => server.listen(${port}, '127.0.0.1');
      listen();`;
    await using thief = startProcess(process.execPath, ['-e', program]);
    const stolen = async () => {
      if (thief.output().includes('holds')) return true;
      kill(services.pid);
      return false;
    };
    await waitFor('the port to be taken', stolen, { interval: 300 });
    const { reason } = await waitFor('the reason', async () => {
      const status = await statusOf(services, 'nats');
      return status.reason?.includes('taken') === true ? status : undefined;
    });
    expect(reason).toMatch(
      `Cannot listen on port ${port}: it is taken by node (pid ${thief.pid}); starting it again in `,
    );
    await thief[Symbol.asyncDispose]();
    await services.restart('nats');
    expect(services.port).toBe(port);
    expect((await fetch(`${services.monitorUrl}/healthz`)).status).toBe(200);
  });

  it('give a service that does not start its reason, its last lines, and the rest an end', async () => {
    await using dir = await tempDir();
    const failing = ['sh', '-c', 'echo "no such luck" >&2; exit 7'];
    let controls: DevControls | undefined;
    const options = { dataDir: dir.path, port: 0, monitorPort: 0, cachePort: 0, command: failing };
    await expect(DevServices.start({ ...options, onControls: (given) => (controls = given) })).rejects.toMatchObject({
      code: 'DEVENV_SERVICE_FAILED',
      message: 'Cannot start the cache: it ended with exit code 7: no such luck',
    });
    const status = await controls?.status();
    expect(status?.services.map(({ state }) => state)).toEqual(['stopped', 'stopped', 'failed']);
    expect(status?.services[2]?.reason).toContain('no such luck');
    const lines = await Array.fromAsync(controls?.logs({ services: ['cache'] }) ?? []);
    expect(lines.map(({ source, text }) => `${source}: ${text}`)[0]).toBe('stderr: no such luck');
    await expect(connectDevServices(dir.path)).rejects.toMatchObject({ code: 'DEVENV_NOT_RUNNING' });
    expect(processesOn(dir.path)).toEqual([]);
    await mkdir(join(dir.path, 'empty'));
    await expect(connectDevServices(join(dir.path, 'empty'))).rejects.toMatchObject({ code: 'DEVENV_NOT_RUNNING' });
    await expect(connectDevServices(join(dir.path, 'absent'))).rejects.toMatchObject({ code: 'DEVENV_NOT_RUNNING' });
  });
});
