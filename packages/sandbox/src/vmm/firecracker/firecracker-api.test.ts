import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { startProcess, tempDir, waitFor } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { fakeFirecracker, recordedRequests } from '../../../test/firecracker/fake-command.ts';
import { SandboxError } from '../../sandbox-error.ts';
import { FirecrackerApi } from './firecracker-api.ts';

/** A fake Firecracker in a folder with a kernel and a disk. */
async function startFake(version?: string) {
  const dir = await tempDir('nex-fc-');
  const command = await fakeFirecracker(dir.path, version);
  await writeFile(join(dir.path, 'kernel'), '\x7fELF');
  for (const name of ['initrd', 'disk', 'log']) await writeFile(join(dir.path, name), '');
  const fake = startProcess(command, ['--api-sock', 'api.sock', '--id', 'vm-1', '--log-path', 'log'], {
    cwd: dir.path,
  });
  const api = new FirecrackerApi(dir.path, 'api.sock', { timeout: 5000 });
  await waitFor('the fake to answer', async () => api.version().catch(() => undefined));
  return {
    path: dir.path,
    api,
    fake,
    requests: async () => recordedRequests(dir.path),
    async [Symbol.asyncDispose]() {
      api[Symbol.dispose]();
      await fake[Symbol.asyncDispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

async function failure(promise: Promise<unknown>): Promise<SandboxError> {
  return promise.then(
    () => expect.unreachable('it should have failed'),
    (error: unknown) => {
      expect(error).toBeInstanceOf(SandboxError);
      return error as SandboxError;
    },
  );
}

/** A server that says what it likes, and an API client of it. */
async function withServer(
  respond: (socket: Socket) => void,
  act: (api: FirecrackerApi) => Promise<void>,
): Promise<void> {
  await using dir = await tempDir('nex-fc-');
  const path = join(dir.path, 'api.sock');
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => undefined));
    socket.once('data', () => respond(socket));
  }).listen(path);
  await once(server, 'listening');
  using api = new FirecrackerApi(dir.path, 'api.sock', { timeout: 300 });
  try {
    await act(api);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

describe('FirecrackerApi', () => {
  it('makes requests that the description knows, each with all that it wants', async () => {
    await using bed = await startFake();
    const { api } = bed;
    expect(await api.version()).toBe('1.16.1');
    expect(await api.instance()).toEqual({
      app_name: 'Firecracker',
      id: 'vm-1',
      state: 'Not started',
      vmm_version: '1.16.1',
    });
    await api.putLogger({ log_path: 'log', level: 'Info', show_level: true, show_log_origin: false });
    await api.putMetrics({ metrics_path: 'metrics' });
    await api.putSerial({
      serial_out_path: 'console',
      rate_limiter: { size: 1024, refill_time: 1000, one_time_burst: 4096 },
    });
    await api.putMachineConfig({
      vcpu_count: 2,
      mem_size_mib: 256,
      smt: false,
      track_dirty_pages: false,
      huge_pages: 'None',
    });
    expect(await api.machineConfig()).toEqual({ vcpu_count: 1, mem_size_mib: 256 });
    await api.putBootSource({ kernel_image_path: 'kernel', initrd_path: 'initrd', boot_args: 'quiet' });
    await api.putDrive('root', {
      path_on_host: 'disk',
      is_root_device: false,
      is_read_only: true,
      cache_type: 'Unsafe',
      io_engine: 'Sync',
      rate_limiter: { bandwidth: { size: 1, refill_time: 1 } },
    });
    await api.putNetworkInterface('net0', {
      host_dev_name: 'tap0',
      guest_mac: '02:00:00:00:00:01',
      rx_rate_limiter: {},
    });
    await api.putVsock({ guest_cid: 3, uds_path: 'agent.sock' });
    await api.putEntropy();
    await api.action('InstanceStart');
    await api.patchDrive('root', { path_on_host: 'disk' });
    await api.patchVm('Paused');
    await api.createSnapshot({ snapshot_path: 'state', mem_file_path: 'memory', snapshot_type: 'Full' });
    expect(await api.instance()).toMatchObject({ state: 'Paused' });
    const requests = await bed.requests();
    expect(requests.filter(({ status }) => status >= 300)).toEqual([]);
    expect(requests.at(-2)).toMatchObject({ method: 'PUT', path: '/snapshot/create', status: 204 });
  });

  it('loads a snapshot in a fresh process, with what overrides it', async () => {
    await using bed = await startFake();
    const machine = { version: '1.16.1', drives: {}, taps: { net0: 'tap0' }, memory: 128 };
    await writeFile(join(bed.path, 'state'), JSON.stringify(machine));
    await bed.api.loadSnapshot({
      snapshot_path: 'state',
      mem_backend: { backend_type: 'File', backend_path: 'disk' },
      resume_vm: true,
      network_overrides: [{ iface_id: 'net0', host_dev_name: 'tap9' }],
      vsock_override: { uds_path: 'other.sock' },
    });
    expect(await bed.api.instance()).toMatchObject({ state: 'Running' });
  });

  it("fails with Firecracker's own words when it refuses", async () => {
    await using bed = await startFake();
    const early = await failure(bed.api.patchVm('Paused'));
    expect(early).toMatchObject({
      code: 'SANDBOX_VMM_FAILED',
      message:
        'Cannot PATCH "/vm" of Firecracker: The requested operation is not supported before starting the microVM.',
    });
    const missing = await failure(bed.api.putBootSource({ kernel_image_path: 'nowhere' }));
    expect(missing.message).toContain('"/boot-source"');
    expect(await bed.api.version(), 'it goes on').toBe('1.16.1');
  });

  it('is refused what a version does not know', async () => {
    await using bed = await startFake('1.5.1');
    expect((await failure(bed.api.putSerial({ serial_out_path: 'console' }))).message).toContain('Invalid request');
    const override = { iface_id: 'net0', host_dev_name: 'tap1' };
    const mem_backend = { backend_type: 'File', backend_path: 'disk' } as const;
    const load = bed.api.loadSnapshot({ snapshot_path: 'state', mem_backend, network_overrides: [override] });
    expect((await failure(load)).message).toContain('unknown field `network_overrides`');
  });

  it('sends one request at a time, in the order of the calls', async () => {
    await using bed = await startFake();
    const names = ['a', 'b', 'c', 'd', 'e'].map((letter) => `disk_${letter}`);
    const drive = { path_on_host: 'disk', is_root_device: false, is_read_only: true };
    await Promise.all(names.map(async (name) => bed.api.putDrive(name, drive)));
    const paths = (await bed.requests()).map(({ path }) => path);
    expect(paths.slice(-5)).toEqual(names.map((name) => `/drives/${name}`));
  });

  it('takes no id that Firecracker would not', async () => {
    using api = new FirecrackerApi('/nowhere', 'api.sock');
    await expect(api.patchDrive('slot-0', {})).rejects.toThrow(TypeError);
    await expect(api.patchDrive('../vm', {})).rejects.toThrow(TypeError);
  });

  it('fails when the process ends before it answers, and at every request after that', async () => {
    await using bed = await startFake();
    const mem_backend = { backend_type: 'File', backend_path: 'disk' } as const;
    const fault = await failure(bed.api.loadSnapshot({ snapshot_path: 'nowhere', mem_backend }));
    expect(fault.message).toContain('ENOENT');
    await bed.fake.exited;
    expect((await failure(bed.api.version())).message).toMatch(/^Cannot GET "\/version" of Firecracker: /);
    expect(await readFile(join(bed.path, 'log'), 'utf8')).toContain('exit_code=1');
  });

  it('fails on an answer that never comes, breaks off, is too long or is no answer', async () => {
    const json = (body: string, status = '200 OK') =>
      `HTTP/1.1 ${status}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
    const cases: [answer: string | undefined, says: string][] = [
      [undefined, 'no answer within 0.3 s'],
      ['HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"firecracker', 'no answer within 0.3 s'],
      ['nonsense', 'Parse Error'],
      [json('x'.repeat(70_000)), 'more than 65536 bytes'],
      [json('{'), 'not what its description says'],
      [json('[]'), 'not what its description says'],
      [json('{"firecracker_version":1}'), 'not what its description says'],
      [json('{}', '204 No Content'), 'not what its description says'],
      [json('<html>', '500 Internal Server Error'), 'it answered with status 500'],
      [json('{"fault_message":"no"}', '413 Payload Too Large'), ': no'],
    ];
    for (const [answer, says] of cases) {
      await withServer(
        (socket) => void (answer === undefined || socket.write(answer)),
        async (api) => expect((await failure(api.version())).message, answer).toContain(says),
      );
    }
    await withServer(
      (socket) => socket.end(),
      async (api) => expect((await failure(api.version())).message).toContain('socket hang up'),
    );
  });
});
