import type { Usage } from '@nex-nix/sandbox';

/** What a workload used at one moment. A figure that the machine does not keep is absent. */
export interface UsageSample {
  /** In milliseconds of the Unix epoch. */
  readonly time: number;
  readonly usage: Usage;
  /** Of one processor, since the sample before; absent in the first one. */
  readonly cpuPercent?: number;
}

/** A sample of what is used now. `last`: the one before it, of the same sandbox or of one before that. */
export function sampleOf(usage: Usage, time: number, last: UsageSample | undefined): UsageSample {
  const [before, now] = [last?.usage.cpuMicros, usage.cpuMicros];
  // A sandbox that was started again counts from nothing.
  if (last === undefined || before === undefined || now === undefined || now < before || time <= last.time) {
    return { time, usage };
  }
  const percent = ((now - before) / 1_000 / (time - last.time)) * 100;
  return { time, usage, cpuPercent: Math.round(percent * 100) / 100 };
}

/**
 * The figures of a sample by the names that messages have for them: those on the metrics feed, and as text those in the
 * metadata of a summary, which `nex workload info` and the metrics of the node read.
 */
export function figuresOf({ usage, cpuPercent }: UsageSample): Record<string, number> {
  const { cpuMicros, memory, memoryPeak, machineMemory, pids, network } = usage;
  const figures = {
    cpu_percent: cpuPercent,
    cpu_seconds: cpuMicros === undefined ? undefined : cpuMicros / 1e6,
    memory_bytes: memory,
    memory_peak_bytes: memoryPeak,
    machine_memory_bytes: machineMemory,
    pids,
    network_rx_bytes: network?.received,
    network_tx_bytes: network?.sent,
  };
  return Object.fromEntries(
    Object.entries(figures).filter((entry): entry is [string, number] => entry[1] !== undefined),
  );
}
