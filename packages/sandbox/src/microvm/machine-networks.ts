import type { NetworkOptions } from '../network/network-options.ts';
import { VmNetworks } from '../network/vm-networks.ts';

/** The networks of machines, as a runtime uses them. */
export type MachineNetworks = Pick<
  VmNetworks,
  'addresses' | 'available' | 'clean' | 'connect' | 'detach' | 'prepare' | 'usage'
> &
  Partial<Pick<VmNetworks, 'gateway'>>;

/** @param options Absent: machines have no network. */
export async function openNetworks(stateDir: string, options: NetworkOptions | undefined): Promise<MachineNetworks> {
  return options === undefined ? NO_NETWORKS : VmNetworks.open({ ...options, stateDir });
}

const NO_NETWORKS: MachineNetworks = {
  available: false,
  prepare: () => Promise.reject(new TypeError('Machines of this runtime have no network')),
  connect: async () => ({ addresses: [], resolvConf: '' }),
  addresses: async () => [],
  usage: async () => undefined,
  detach: async () => undefined,
  clean: async () => [],
};
