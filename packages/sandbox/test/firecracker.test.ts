import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { FirecrackerVmm } from '../src/vmm/firecracker/firecracker-vmm.ts';
import { recordedRequests } from './firecracker/fake-command.ts';
import { ask, firecrackerBed, nextLine, USER } from './firecracker/firecracker-bed.ts';

const BOOT_REQUESTS = [
  'GET /version',
  'PUT /serial',
  'PUT /machine-config',
  'PUT /boot-source',
  'PUT /drives/root',
  'PUT /drives/slot0',
  'PUT /drives/slot1',
  'PUT /vsock',
  'PUT /entropy',
  'PUT /actions',
];

async function requestsIn(folder: string) {
  const requests = await recordedRequests(folder);
  expect(requests.filter(({ status }) => status >= 300)).toEqual([]);
  return requests;
}

function names(requests: readonly { method: string; path: string }[]): string[] {
  return requests.map(({ method, path }) => `${method} ${path}`);
}

describeWith(['setpriv', 'unshare', 'nsenter'], 'a VM under Firecracker', () => {
  it('is booted by requests that Firecracker takes, and its guest is connected to', async () => {
    await using bed = await firecrackerBed();
    const vm = await bed.boot('vm-1', { memory: (256 << 20) + 1, vcpus: 2 });
    expect(await ask(vm, 'hello')).toBe('echo hello');
    const requests = await requestsIn(join(bed.path, 'vms/vm-1/run'));
    expect(names(requests)).toEqual(BOOT_REQUESTS);
    expect(requests.map(({ body }) => body)).toMatchObject([
      undefined,
      { rate_limiter: { size: 1 << 20 } },
      { vcpu_count: 2, mem_size_mib: 257 },
      {
        kernel_image_path: 'kernel',
        initrd_path: 'initrd',
        boot_args: expect.stringMatching(
          /^quiet console=ttyS0 reboot=k panic=-1 pci=off .*nex\.channel=vsock$/,
        ) as string,
      },
      { path_on_host: 'root', is_root_device: false, is_read_only: true },
      { path_on_host: 'slot0', is_read_only: true },
      { path_on_host: 'slot1', is_read_only: false },
      { guest_cid: 3, uds_path: 'agent.sock' },
      {},
      { action_type: 'InstanceStart' },
    ]);
    expect(vm.record).toEqual({ vmm: 'firecracker', id: 'vm-1', folder: join(bed.path, 'vms/vm-1'), slots: 2 });
    expect(await vm.consoleTail()).toContain('Linux version');
    expect(await vm.memory()).toBeGreaterThan(1 << 20);
  });

  it('has no rights, no network and nobody else to fear', async () => {
    await using bed = await firecrackerBed();
    // A file stands for that of a cgroup.
    const entry = join(bed.path, 'cgroup.procs');
    await writeFile(entry, '');
    const vm = await bed.boot('vm-1', { cgroupEntries: [entry] });
    expect(await readFile(entry, 'utf8'), 'it puts itself in').toBe('0\n');
    const status = await readFile(`/proc/${vm.pid}/status`, 'utf8');
    expect(status).toMatch(new RegExp(`^Uid:\t${USER}\t${USER}\t${USER}\t${USER}$`, 'm'));
    expect(status).toMatch(/^Groups:\s*$/m);
    expect(status).toMatch(/^Cap(Prm|Eff|Bnd):\t0+$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect((await readFile(`/proc/${vm.pid}/net/dev`, 'utf8')).trim().split('\n')).toHaveLength(3);
    const folder = await stat(join(bed.path, 'vms/vm-1/run'));
    expect([folder.uid, folder.gid, folder.mode & 0o777], 'it can put nothing in the place of its sockets').toEqual([
      0,
      USER,
      0o710,
    ]);
  });

  it('gets disks in its slots, each as it may be used', async () => {
    await using bed = await firecrackerBed();
    const vm = await bed.boot('vm-1');
    const closure = await bed.disk('closure', 8192);
    const scratch = await bed.disk('scratch', 4096, 0o666);
    await vm.attach(0, closure, { writable: false });
    await vm.attach(1, scratch, { writable: true });
    expect(await ask(vm, 'disk 0')).toBe('8192 ro');
    expect(await ask(vm, 'disk 1')).toBe('4096 rw');
    await vm.attach(0, await bed.disk('other', 512), { writable: false });
    expect(await ask(vm, 'disk 0'), 'another one').toBe('512 ro');
    await expect(vm.attach(0, scratch, { writable: true })).rejects.toThrow('slot 0 can only be read');
    await expect(vm.attach(1, closure, { writable: false })).rejects.toThrow('slot 1 is for writing');
    await expect(vm.attach(2, closure, { writable: true })).rejects.toThrow('there is no slot 2');
    await expect(vm.attach(1, join(bed.path, 'nowhere'), { writable: true })).rejects.toThrow('ENOENT');
  });

  it('tells how it ended', async () => {
    await using bed = await firecrackerBed();
    const ends = { reboot: 'shutdown', panic: 'panic', crash: 'failed' } as const;
    for (const [line, reason] of Object.entries(ends)) {
      const vm = await bed.boot(`vm-${line}`);
      const channel = await vm.connect();
      channel.write(`${line}\n`);
      expect((await vm.exited).reason, line).toBe(reason);
      await expect(vm.connect()).rejects.toMatchObject({ code: 'SANDBOX_VMM_FAILED' });
    }
    const killed = await bed.boot('vm-killed');
    const began = performance.now();
    process.kill(killed.pid, 'SIGKILL');
    expect(await killed.exited).toMatchObject({ reason: 'killed' });
    expect(performance.now() - began, 'at once').toBeLessThan(1000);
    await killed.kill();
  });

  it('gives way to one connection at a time', async () => {
    await using bed = await firecrackerBed();
    const vm = await bed.boot('vm-1');
    const first = await vm.connect();
    const closed = new Promise((resolve) => void first.once('close', resolve));
    const second = await vm.connect();
    await closed;
    second.write('still there\n');
    expect(await nextLine(second)).toBe('echo still there');
  });

  it('becomes a template, from which others are restored that share nothing but what is read', async () => {
    await using bed = await firecrackerBed();
    const first = await bed.boot('vm-1');
    const booted = await ask(first, 'boot');
    const template = await first.toTemplate(join(bed.path, 'template'));
    expect(await first.exited).toMatchObject({ reason: 'killed' });
    expect((await stat(join(template.folder, 'snapshot.memory'))).mode & 0o777).toBe(0o444);
    const closure = await bed.disk('closure', 8192);
    for (const id of ['vm-2', 'vm-3']) {
      const vm = bed.own(await bed.vmm.restore(await bed.spec(id), template));
      expect(await ask(vm, 'boot')).toBe(booted);
      if (id === 'vm-2') await vm.attach(0, closure, { writable: false });
      expect(await ask(vm, 'disk 0')).toBe(id === 'vm-2' ? '8192 ro' : '0 ro');
      const requests = await requestsIn(join(bed.path, 'vms', id, 'run'));
      expect(names(requests).slice(0, 3)).toEqual(['GET /version', 'PUT /serial', 'PUT /snapshot/load']);
    }
  });

  it('is not restored from a template that was not made for it, and leaves nothing then', async () => {
    await using bed = await firecrackerBed();
    const template = await (await bed.boot('vm-1')).toTemplate(join(bed.path, 'template'));
    const larger = await bed.spec('vm-2', { memory: 512 << 20 });
    await expect(bed.vmm.restore(larger, template)).rejects.toMatchObject({ code: 'SANDBOX_TEMPLATE_UNFIT' });
    await using older = await firecrackerBed({ version: '1.15.1' });
    const spec = await bed.spec('vm-3');
    await expect(older.vmm.restore(spec, template)).rejects.toMatchObject({ code: 'SANDBOX_TEMPLATE_UNFIT' });
    await writeFile(join(template.folder, 'snapshot.state'), 'damaged');
    await expect(bed.vmm.restore(spec, template)).rejects.toMatchObject({
      code: 'SANDBOX_TEMPLATE_UNFIT',
      message: expect.stringContaining('"/snapshot/load"') as string,
    });
    expect(await readdir(spec.folder)).toEqual([]);
    expect(await readdir(larger.folder)).toEqual([]);
  });

  it('is found again by its record, whoever started it, and not when it is gone', async () => {
    await using bed = await firecrackerBed();
    const started = await bed.boot('vm-1');
    await started[Symbol.asyncDispose]();
    const vm = await bed.reattach(started.record);
    expect(vm.pid).toBe(started.pid);
    expect(await ask(vm, 'hello')).toBe('echo hello');
    await vm.attach(0, await bed.disk('closure', 8192), { writable: false });
    process.kill(started.pid, 'SIGKILL');
    expect(await vm.exited).toMatchObject({ reason: 'killed' });
    expect(await bed.vmm.reattach(started.record)).toBeUndefined();
  });

  it('is not taken for another process that its record was made to name', async () => {
    await using bed = await firecrackerBed();
    const vm = await bed.boot('vm-1');
    const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
    const mine = `${boot} ${await readFile('/proc/self/stat', 'utf8')}`;
    await writeFile(join(vm.record.folder, 'process'), mine);
    expect(await bed.vmm.reattach(vm.record)).toBeUndefined();
  });

  it('whose start fails says why, and leaves nothing', async () => {
    await using bed = await firecrackerBed();
    const spec = await bed.spec('vm-1');
    const kernel = { ...bed.image.manifest.kernel, file: 'initrd.file' };
    const image = { ...bed.image, manifest: { ...bed.image.manifest, kernel } };
    await expect(bed.vmm.boot({ ...spec, image })).rejects.toMatchObject({
      code: 'SANDBOX_VMM_FAILED',
      message: expect.stringMatching(/^Cannot start the virtual machine "vm-1": .*Invalid magic/) as string,
    });
    await expect(bed.vmm.boot({ ...spec, vcpus: 33 })).rejects.toMatchObject({ code: 'SANDBOX_SPEC_INVALID' });
    const missing = new FirecrackerVmm({ command: join(bed.path, 'nowhere') });
    await expect(missing.boot(spec)).rejects.toMatchObject({ code: 'SANDBOX_VMM_MISSING' });
    await writeFile(join(bed.path, 'dies'), '#!/bin/sh\necho "no such thing" >&2\nexit 3\n', { mode: 0o755 });
    const dies = new FirecrackerVmm({ command: join(bed.path, 'dies') });
    await expect(dies.boot(spec)).rejects.toThrow('it has ended before it was told anything\nno such thing');
    expect(await readdir(spec.folder)).toEqual([]);
  });

  it('is asked of an old version only what that knows', async () => {
    await using bed = await firecrackerBed({ version: '1.5.1' });
    const vm = await bed.boot('vm-1');
    const requests = await requestsIn(join(bed.path, 'vms/vm-1/run'));
    expect(names(requests)).toEqual(BOOT_REQUESTS.filter((name) => name !== 'PUT /serial'));
    const template = await vm.toTemplate(join(bed.path, 'template'));
    expect(await ask(bed.own(await bed.vmm.restore(await bed.spec('vm-2'), template)), 'hello')).toBe('echo hello');
    await using older = await firecrackerBed({ version: '1.4.0' });
    await expect(older.boot('vm-1')).rejects.toMatchObject({ code: 'SANDBOX_VMM_MISSING' });
  });

  it('has a tap of its own in its network namespace, under another name after a restore', async () => {
    await using bed = await firecrackerBed();
    const tap = { namespace: '../../proc/self/ns/net', name: 'tap1', mac: '02:00:00:00:00:01' };
    const vm = await bed.boot('vm-1', { network: true, tap });
    const sent = await requestsIn(join(bed.path, 'vms/vm-1/run'));
    expect(sent.find(({ path }) => path === '/network-interfaces/net0')?.body).toEqual({
      iface_id: 'net0',
      host_dev_name: 'tap1',
      guest_mac: '02:00:00:00:00:01',
    });
    const template = await vm.toTemplate(join(bed.path, 'template'));
    const spec = await bed.spec('vm-2', { network: true, tap: { ...tap, name: 'tap2' } });
    bed.own(await bed.vmm.restore(spec, template));
    const load = (await requestsIn(join(spec.folder, 'run'))).at(-1);
    expect(load?.body).toMatchObject({ network_overrides: [{ iface_id: 'net0', host_dev_name: 'tap2' }] });
  });

  it('is put in a jail that has nothing but its files', async () => {
    await using bed = await firecrackerBed({ jailer: true });
    // Installed by a link, as with versions side by side.
    await mkdir(join(bed.path, 'bin'));
    await symlink(bed.options.command, join(bed.path, 'bin/fc'));
    const vmm = new FirecrackerVmm({ ...bed.options, command: join(bed.path, 'bin/fc') });
    const vm = bed.own(await vmm.boot(await bed.spec('vm-1')));
    const { folder } = vm.record;
    expect(await ask(vm, 'hello')).toBe('echo hello');
    expect(await readFile(join(folder, 'jail/jailer-arguments'), 'utf8')).toBe(
      `--id vm-1 --exec-file ${bed.options.command} --uid ${USER} --gid ${USER} --chroot-base-dir ${folder}/jail ` +
        '--cgroup-version 1 --resource-limit no-file=4096 -- --api-sock api.sock --log-path firecracker.log --level Info\n',
    );
    await vm.attach(0, await bed.disk('closure', 8192), { writable: false });
    expect(await ask(vm, 'disk 0')).toBe('8192 ro');
    await vm[Symbol.asyncDispose]();
    const again = await bed.reattach(vm.record);
    expect(await ask(again, 'hello')).toBe('echo hello');
    const template = await again.toTemplate(join(bed.path, 'template')).catch((error: unknown) => error);
    expect(template, 'nobody knows what it was made of').toMatchObject({ code: 'SANDBOX_VMM_FAILED' });
  });

  it.each([false, true])('has files of another file system; in a jail: %s', async (jailer) => {
    await using bed = await firecrackerBed({ jailer, imageInMemory: true });
    const first = await bed.boot('vm-1');
    expect(await ask(first, 'hello')).toBe('echo hello');
    const template = await first.toTemplate(join(bed.image.folder, 'template'));
    const vm = bed.own(await bed.vmm.restore(await bed.spec('vm-2'), template));
    const disk = join(bed.image.folder, 'disk');
    await writeFile(disk, Buffer.alloc(1024));
    await vm.attach(0, disk, { writable: false });
    expect(await ask(vm, 'disk 0')).toBe('1024 ro');
    const mounts = await readFile('/proc/self/mountinfo', 'utf8');
    expect(mounts, 'nothing is mounted here').not.toContain(bed.path);
    const writable = join(bed.image.folder, 'writable');
    await writeFile(writable, Buffer.alloc(1024), { mode: 0o666 });
    await chmod(writable, 0o666);
    await vm.attach(1, writable, { writable: true });
    expect(await ask(vm, 'disk 1')).toBe('1024 rw');
  });

  it('prints to a file that it cannot write to otherwise', async () => {
    await using bed = await firecrackerBed();
    const vm = await bed.boot('vm-1');
    await waitFor('the first line', async () => (await vm.consoleTail()).includes('Linux version'));
    const { uid, mode } = await stat(join(vm.record.folder, 'console'));
    expect([uid, mode & 0o777]).toEqual([0, 0o600]);
  });
});
