import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { chmod, copyFile, mkdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import type { VmTemplate } from '../src/vmm/vmm.ts';
import { readOrEmpty } from './bed.ts';
import { erofs, qemuBed, run, tell, TOOLS } from './qemu-bed.ts';

describeWith(TOOLS, 'a VM under QEMU', () => {
  let bed: Awaited<ReturnType<typeof qemuBed>>;
  let template: VmTemplate;

  // Booted once, two at the same time; what follows is restored from one of them.
  beforeAll(async () => {
    bed = await qemuBed();
    const [first, second] = await Promise.all([bed.boot(), bed.boot()]);
    await run(first, 'mkdir -p /mnt; echo first >/made');
    await run(second, 'mkdir -p /mnt; echo second >/made');
    expect(await run(first, 'cat /made')).toBe('first\n');
    expect(await first.consoleTail()).toContain('guest is up');
    await second.kill();
    template = await first.toTemplate(join(bed.path, 'template'));
    expect((await first.exited).reason).toBe('killed');
  }, 90_000);
  afterEach(async () => bed.killAll());
  afterAll(async () => bed[Symbol.asyncDispose]());

  it('is restored from a template, each with a memory of its own', async () => {
    const vms = await Promise.all([bed.restore(template), bed.restore(template)]);
    const words = await Promise.all(vms.map(async (vm, index) => run(vm, `echo ${index} >>/made; cat /made`)));
    expect(words).toEqual(['first\n0\n', 'first\n1\n']);
    expect(await vms[0].memory()).toBeGreaterThan(16 << 20);
    await Promise.all(vms.map(async (vm) => vm.kill()));
    expect(await run(await bed.restore(template), 'cat /made')).toBe('first\n');
  });

  it('runs as its user without rights, in a network and a mount namespace of its own, and reaches no file of others', async () => {
    const spec = await bed.spec();
    const vm = await bed.restore(template, spec);
    const status = await readFile(`/proc/${vm.pid}/status`, 'utf8');
    expect(status).toMatch(new RegExp(`^Uid:\\t${spec.user}\\t${spec.user}\\t${spec.user}\\t${spec.user}$`, 'm'));
    expect(status).toMatch(/^Groups:\t *$/m);
    expect(status).toMatch(/^CapEff:\t0+$/m);
    expect(status).toMatch(/^CapBnd:\t0+$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
    expect(readOrEmpty(`/proc/${vm.pid}/net/dev`).match(/^ *\w+:/gm)).toEqual(['    lo:']);
    expect(readOrEmpty('/proc/self/mountinfo')).not.toContain(spec.folder);
    expect(readdirSync(`/proc/${vm.pid}/task`).length).toBeLessThan(64);
  });

  it('enters its cgroups before it is anything else', async () => {
    const file = join(bed.path, 'cgroup.procs');
    await writeFile(file, '');
    await bed.restore(template, { cgroupEntries: [file] });
    expect(await readFile(file, 'utf8')).toBe('0\n');
  });

  it('gets disks while it runs: one that it can read, and one that it can write to', async () => {
    const vm = await bed.restore(template);
    const closure = join(bed.path, 'closure.img');
    await erofs(closure, { hello: 'from the disk\n' });
    const scratch = join(bed.path, 'scratch.img');
    await writeFile(scratch, '');
    await truncate(scratch, 24 << 20);
    await vm.attach(0, closure, { writable: false });
    await vm.attach(1, scratch, { writable: true });
    expect(await run(vm, 'mount -t erofs -o ro /dev/vdb /mnt && cat /mnt/hello')).toBe('from the disk\n');
    expect(await run(vm, 'cat /sys/block/vdb/ro /sys/block/vdc/ro /sys/block/vdc/size')).toBe(`1\n0\n${24 << 11}\n`);
    await run(vm, 'echo written >/dev/vdc; sync');
    expect((await readFile(scratch)).subarray(0, 8).toString()).toBe('written\n');
    // The folders that a closure's disk is in are closed to its user, and it is shared with others.
    await expect(vm.attach(0, closure, { writable: false })).rejects.toThrow('there is a disk in it');
    await expect(vm.attach(2, closure, { writable: false })).rejects.toThrow('it has no slot 2');
  });

  it('refuses a disk that it could not read, or that the guest could do with what it should not', async () => {
    const vm = await bed.restore(template);
    const disk = join(bed.path, 'closed.img');
    await erofs(disk, { a: 'b' });
    await chmod(disk, 0o600);
    await expect(vm.attach(0, disk, { writable: true })).rejects.toThrow('can only read');
    await expect(vm.attach(1, disk, { writable: false })).rejects.toThrow('write to');
    await expect(vm.attach(0, disk, { writable: false })).rejects.toThrow('not everybody may read it');
    await expect(vm.attach(0, bed.path, { writable: false })).rejects.toThrow('it is no file');
  });

  it('takes a disk from another file system', async () => {
    const disk = `/dev/shm/nex-qemu-${randomBytes(4).toString('hex')}`;
    await using stack = new AsyncDisposableStack();
    stack.defer(async () => rm(disk));
    await erofs(join(bed.path, 'elsewhere.img'), { hello: 'from elsewhere\n' });
    await copyFile(join(bed.path, 'elsewhere.img'), disk);
    const vm = await bed.restore(template);
    await vm.attach(0, disk, { writable: false });
    expect(await run(vm, 'mount -t erofs -o ro /dev/vdb /mnt && cat /mnt/hello')).toBe('from elsewhere\n');
  });

  it('is seen to be gone at once when somebody kills it', async () => {
    const vm = await bed.restore(template);
    process.kill(vm.pid, 'SIGKILL');
    const killed = performance.now();
    expect(await vm.exited).toMatchObject({ reason: 'killed' });
    expect(performance.now() - killed).toBeLessThan(1000);
    await expect(vm.attach(0, '/etc/passwd', { writable: false })).rejects.toMatchObject({
      code: 'SANDBOX_VMM_FAILED',
    });
    expect(await bed.vmm.reattach(vm.record)).toBeUndefined();
  });

  it.each([
    { line: 'echo o >/proc/sysrq-trigger', reason: 'shutdown' },
    { line: 'echo 1 >/proc/sys/kernel/sysrq; echo b >/proc/sysrq-trigger', reason: 'reset' },
    { line: 'echo c >/proc/sysrq-trigger', reason: 'panic' },
  ])('tells how its guest ended: $reason', async ({ line, reason }) => {
    const vm = await bed.restore(template);
    await tell(vm, `echo "last words" >/dev/console; ${line}`);
    expect((await vm.exited).reason).toMatch(reason);
    expect(await vm.consoleTail()).toContain('last words');
    expect(existsSync(`/proc/${vm.pid}`)).toBe(false);
  });

  it('keeps the end of what its guest prints without end, and takes no more room for it', async () => {
    const vm = await bed.restore(template);
    const before = await vm.memory();
    await run(
      vm,
      "echo 0 >/proc/sys/kernel/printk; printf '\\033[2J' >/dev/console; yes aaaaaaaaaaaaaaa | head -c 131072 >/dev/console; echo the end >/dev/console",
    );
    const tail = await vm.consoleTail();
    expect(tail.endsWith('aaaaaaaaaaaaaaa\nthe end')).toBe(true);
    expect(tail).not.toContain('\u001b');
    expect(tail.length).toBeLessThanOrEqual(8192);
    expect((await readFile(join(vm.record.folder, 'console'))).length).toBeLessThanOrEqual(64 * 1024);
    expect((await vm.memory()) - before).toBeLessThan(64 << 20);
  });

  it('refuses a template of another shape, or one that is not whole', async () => {
    const unfit = { code: 'SANDBOX_TEMPLATE_UNFIT' };
    await expect(bed.restore(template, { memory: 128 << 20 })).rejects.toMatchObject({
      ...unfit,
      message: expect.stringContaining('"memory"'),
    });
    const empty = join(bed.path, 'empty');
    await mkdir(empty);
    await expect(bed.restore({ ...template, folder: empty })).rejects.toMatchObject(unfit);
  });

  it('leaves nothing when QEMU does not take a state', async () => {
    const folder = join(bed.path, 'broken');
    await mkdir(folder);
    for (const file of ['ram', 'template.json']) await copyFile(join(template.folder, file), join(folder, file));
    await writeFile(join(folder, 'state'), 'no state at all, but as many bytes as it takes to be read');
    await chmod(join(folder, 'ram'), 0o444);
    const spec = await bed.spec();
    await expect(bed.restore({ ...template, folder }, spec)).rejects.toMatchObject({ code: 'SANDBOX_TEMPLATE_UNFIT' });
    expect(readdirSync(spec.folder)).toEqual([]);
    await waitFor('QEMU to be gone', () => !isThere(spec.id));
  });
});

function isThere(word: string): boolean {
  return readdirSync('/proc').some((pid) => /^\d+$/.test(pid) && readOrEmpty(`/proc/${pid}/cmdline`).includes(word));
}
