import type { Usage } from '@nex-nix/sandbox';

/** What several sandboxes use together. A figure that none of them has is absent. */
export function sumOfUsage(usages: readonly Usage[]): Usage {
  const sum = (figure: (usage: Usage) => number | undefined): number | undefined => {
    const figures = usages.map(figure).filter((value) => value !== undefined);
    return figures.length === 0 ? undefined : figures.reduce((total, value) => total + value, 0);
  };
  const [memory, memoryPeak, machineMemory, cpuMicros, pids, received, sent] = [
    sum((usage) => usage.memory),
    sum((usage) => usage.memoryPeak),
    sum((usage) => usage.machineMemory),
    sum((usage) => usage.cpuMicros),
    sum((usage) => usage.pids),
    sum((usage) => usage.network?.received),
    sum((usage) => usage.network?.sent),
  ];
  return {
    ...(memory === undefined ? {} : { memory }),
    ...(memoryPeak === undefined ? {} : { memoryPeak }),
    ...(machineMemory === undefined ? {} : { machineMemory }),
    ...(cpuMicros === undefined ? {} : { cpuMicros }),
    ...(pids === undefined ? {} : { pids }),
    ...(received === undefined || sent === undefined ? {} : { network: { received, sent } }),
  };
}
