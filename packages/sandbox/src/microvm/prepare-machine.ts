import { checkProgram } from '../bundle/closure.ts';
import type { SandboxSpec } from '../sandbox.ts';
import type { VmShape } from '../vmm/vmm.ts';
import type { GuestMachine } from './guest-machine.ts';
import type { MicrovmFiles } from './microvm-files.ts';
import { isSameShape, shapeFor } from './microvm-options.ts';
import { planClosure, prepareGuest, startFailure, wantsScratch } from './start-in-guest.ts';
import type { Workshop } from './workshop.ts';

/** A machine in which nothing is missing but the program's start. */
export interface PreparedMachine {
  machine: GuestMachine;
  /** Keeps its closure disk. */
  hold: Disposable | undefined;
}

/**
 * Gets a machine for a sandbox and makes it ready for the sandbox' program. From the moment when the sandbox' folder names
 * the machine, it goes with the sandbox. A machine that does not get so far leaves nothing.
 *
 * @throws SandboxError SANDBOX_PROGRAM_NOT_FOUND, SANDBOX_PROGRAM_NOT_EXECUTABLE, SANDBOX_START_FAILED and those of
 *   networks and VMMs; the reason of the signal
 */
export async function prepareMachine(
  workshop: Workshop,
  { spec, files }: { spec: SandboxSpec; files: MicrovmFiles },
  signal: AbortSignal | undefined,
): Promise<PreparedMachine> {
  checkProgram(spec);
  const { pool, disks, networks } = workshop;
  const plan = planClosure(spec.closure, pool.shape.image);
  const claiming = claim(workshop, spec, signal);
  const building = plan.disk.length === 0 ? undefined : disks.disk(plan.disk, { signal });
  const [claimed, built] = await Promise.allSettled([claiming, building]);
  if (claimed.status === 'rejected') throw claimed.reason;
  const machine = claimed.value;
  let hold: Disposable | undefined;
  try {
    if (built.status === 'rejected') throw built.reason;
    signal?.throwIfAborted();
    const disk = built.value;
    hold = disk?.hold();
    const { logRate } = spec.resources;
    const connected = spec.network === 'bridge';
    const rate = logRate === undefined ? {} : { logRate };
    files.keepMachine({ version: 1, vm: machine.vm.record, disk: plan.disk, ...rate, connected });
    const attachment = await networks.connect(machine.id, spec);
    const { memory } = shapeFor(spec, pool.shape);
    const { tmp = 0 } = spec.resources;
    const scratch = wantsScratch(spec.resources, memory) ? await machine.makeScratch(tmp) : undefined;
    await prepareGuest(machine, spec, { plan, disk: disk?.file, scratch, attachment, signal });
    return { machine, hold };
  } catch (error) {
    const failure = signal?.aborted ? error : await startFailure(error, spec, machine);
    hold?.[Symbol.dispose]();
    await machine.destroy();
    throw failure;
  }
}

async function claim(
  { pool, machines, onEvent }: Workshop,
  spec: SandboxSpec,
  signal: AbortSignal | undefined,
): Promise<GuestMachine> {
  const shape: VmShape = shapeFor(spec, pool.shape);
  const options = { what: `the sandbox "${spec.id}"`, signal };
  const { machine, warm } = isSameShape(shape, pool.shape)
    ? await pool.take(options)
    : { machine: await machines.make(shape, options), warm: false };
  onEvent({ type: 'claimed', vmid: machine.id, sandbox: spec.id, warm });
  return machine;
}
