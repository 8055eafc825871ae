import type { Controller, Hierarchy } from './cgroup-layout.ts';
import type { Resources } from '../sandbox.ts';

const CPU_PERIOD_MICROS = 100_000;

/** Processes of the OCI runtime that are in the cgroup while it sets the sandbox up, on top of the program's own. */
const STARTUP_PIDS = 4;

/**
 * The runtime itself stays: it waits for the program in the cgroup that it started it from. Moving it out later takes
 * longer than the whole start, as the kernel waits for a grace period to move a process other than the writer.
 */
const RUNTIME_PIDS = 1;

/** One file of a cgroup to be written. */
export interface LimitWrite {
  file: string;
  value: string;
  /** Kernels without swap accounting do not have the file; what it limits does not exist there or is not counted. */
  optional?: true;
}

/** The writes that enforce `resources` in one hierarchy, in order. */
export function limitWrites({ version, controllers }: Hierarchy, resources: Resources): LimitWrite[] {
  const { memory, pids, cpus } = resources;
  const writes: LimitWrite[] = [];
  if (memory !== undefined && controllers.includes('memory')) {
    const value = String(memory);
    // Version 1 refuses a memory+swap limit below the memory limit, so memory goes first.
    if (version === 1) {
      writes.push({ file: 'memory.limit_in_bytes', value });
      writes.push({ file: 'memory.memsw.limit_in_bytes', value, optional: true });
    } else {
      writes.push({ file: 'memory.max', value }, { file: 'memory.swap.max', value: '0', optional: true });
    }
  }
  if (pids !== undefined && controllers.includes('pids')) {
    writes.push({ file: 'pids.max', value: String(pids + STARTUP_PIDS) });
  }
  if (cpus !== undefined && controllers.includes('cpu')) {
    const quota = Math.round(cpus * CPU_PERIOD_MICROS);
    if (version === 1) {
      writes.push({ file: 'cpu.cfs_period_us', value: String(CPU_PERIOD_MICROS) });
      writes.push({ file: 'cpu.cfs_quota_us', value: String(quota) });
    } else {
      writes.push({ file: 'cpu.max', value: `${quota} ${CPU_PERIOD_MICROS}` });
    }
  }
  return writes;
}

/** Value of `pids.max` once the program runs. */
export function pidsLimit(pids: number): string {
  return String(pids + RUNTIME_PIDS);
}

/** Names of the wanted limits that none of the hierarchies can enforce. */
export function unsupportedLimits(hierarchies: readonly Hierarchy[], resources: Resources): string[] {
  const wanted: [name: keyof Resources, controller: Controller][] = [
    ['memory', 'memory'],
    ['cpus', 'cpu'],
    ['pids', 'pids'],
  ];
  return wanted
    .filter(([name]) => resources[name] !== undefined)
    .filter(([, controller]) => !hierarchies.some(({ controllers }) => controllers.includes(controller)))
    .map(([name]) => name);
}
