import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { GuestConnection, readGuestImage } from '@nex-nix/guest';
import { QemuVmm } from '@nex-nix/sandbox';
import { guestImage, tempDir } from '@nex-nix/test-kit';
import { median, type Measurement, type Row } from '../row.ts';

type Vm = Awaited<ReturnType<QemuVmm['boot']>>;
type VmSpec = Parameters<QemuVmm['boot']>[0];

/** User of the machines; nobody's. */
const USER = 1_500_000_000;

const MIB = 1024 * 1024;

/** Without KVM, as most machines for tests are. What KVM does is faster. */
const boot: Row = {
  id: 'vm.boot',
  what: 'QEMU without KVM started, until the agent of the minimal guest (256 MiB) has answered',
  unit: 'ms',
  wanted: 3000,
  async measure(): Promise<Measurement> {
    await using bench = await openBench();
    const values: number[] = [];
    const started: number[] = [];
    const sizes: number[] = [];
    for (let run = 0; run < 7; run++) {
      const { vm, ready, running } = await bench.time(async (spec) => bench.vmm.boot(spec));
      values.push(ready);
      started.push(running);
      sizes.push(await vm.memory());
      await bench.end(vm);
    }
    const size = `  memory of the machine, its guest idle: ${(median(sizes) / MIB).toFixed(0)} MiB`;
    return { values, notes: [`  until the guest's first instruction: ${median(started).toFixed(0)} ms`, size] };
  },
};

const restore: Row = {
  id: 'vm.restore',
  what: 'the same from a template that was taken once',
  unit: 'ms',
  wanted: 200,
  async measure(): Promise<Measurement> {
    await using bench = await openBench();
    const { vm: first } = await bench.time(async (spec) => bench.vmm.boot(spec));
    const began = performance.now();
    const template = await first.toTemplate(join(bench.path, 'template'));
    const taken = performance.now() - began;
    await first[Symbol.asyncDispose]();
    const values: number[] = [];
    const started: number[] = [];
    const sizes: number[] = [];
    for (let run = 0; run < 21; run++) {
      const { vm, ready, running } = await bench.time(async (spec) => bench.vmm.restore(spec, template));
      values.push(ready);
      started.push(running);
      sizes.push(await vm.memory());
      await bench.end(vm);
    }
    const notes = [
      `  until the guest runs: ${median(started).toFixed(0)} ms; slowest answer: ${Math.max(...values).toFixed(0)} ms`,
      `  taking the template: ${taken.toFixed(0)} ms, once; memory of the machine: ${(median(sizes) / MIB).toFixed(0)} MiB`,
    ];
    return { values, notes };
  },
};

export const vmMachineRows: readonly Row[] = [boot, restore];

async function openBench() {
  const dir = await tempDir('nex-bench-vm-');
  const folder = await guestImage();
  const image = { folder, manifest: await readGuestImage(folder) };
  const vmm = new QemuVmm({ stateDir: join(dir.path, 'vmm'), accelerator: 'tcg' });
  let count = 0;
  return {
    path: dir.path,
    vmm,
    /** Milliseconds until a machine runs, and until its agent has answered. */
    async time(make: (spec: VmSpec) => Promise<Vm>): Promise<{ vm: Vm; running: number; ready: number }> {
      const id = `bench-${count++}`;
      const shape = { image, vcpus: 1, memory: 256 * MIB, slots: 2, network: false };
      const spec = { ...shape, id, folder: join(dir.path, id), user: USER + count, cgroupEntries: [] };
      await mkdir(spec.folder);
      const began = performance.now();
      const vm = await make(spec);
      const running = performance.now() - began;
      const connection = await GuestConnection.open(await vm.connect());
      await connection.request({ type: 'ping' });
      const ready = performance.now() - began;
      await connection[Symbol.asyncDispose]();
      return { vm, running, ready };
    },
    async end(vm: Vm): Promise<void> {
      await vm.kill();
      await vm[Symbol.asyncDispose]();
      await rm(vm.record.folder, { recursive: true });
      // What is left to do for the kernel, with its memory and its namespaces, is not the next one's.
      await delay(100);
    },
    [Symbol.asyncDispose]: async () => dir[Symbol.asyncDispose](),
  };
}
