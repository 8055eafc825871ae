/**
 * Boots a VM, prints its record when its guest is up, and stays until it is killed: the process whose death the tests of
 * reattaching survive. Arguments: folder for QEMU's facts, spec as JSON.
 */
import { QemuVmm } from '../src/vmm/qemu/qemu-vmm.ts';
import type { VmSpec } from '../src/vmm/vmm.ts';
import { run } from './qemu-bed.ts';

const [, , stateDir = '', spec = ''] = process.argv;
const vm = await new QemuVmm({ stateDir, accelerator: 'tcg' }).boot(JSON.parse(spec) as VmSpec);
await run(vm, 'echo before >/made; echo "first words" >/dev/console');
await vm.consoleTail();
process.stdout.write(`${JSON.stringify(vm.record)}\n`);
await vm.exited;
