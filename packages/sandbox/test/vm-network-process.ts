/**
 * Networks of virtual machines in a network namespace that a test has made; takes calls as `network-process.ts` does.
 * Argument: state folder.
 */
import type { NetworkOptions } from '@nex-nix/sandbox';
import { VmNetworks } from '../src/network/vm-networks.ts';
import { serveCalls } from './network-process.ts';

const [, , stateDir = ''] = process.argv;

/** What a test can have done in the namespace; one call at a time. */
export class VmNetworkProcess {
  #networks: VmNetworks;

  constructor(networks: VmNetworks) {
    this.#networks = networks;
  }

  /** Begins anew, as a process that has nothing but what is written down. */
  async open(options: NetworkOptions = {}): Promise<void> {
    this.#networks = await VmNetworks.open({ stateDir, ...options });
  }

  async prepare(id: string, user: number) {
    return this.#networks.prepare(id, user);
  }

  async connect(id: string, spec: Parameters<VmNetworks['connect']>[1]) {
    return this.#networks.connect(id, spec);
  }

  async addresses(id: string) {
    return this.#networks.addresses(id);
  }

  async usage(id: string) {
    return this.#networks.usage(id);
  }

  async detach(id: string): Promise<void> {
    await this.#networks.detach(id);
  }

  async clean(owned: string[], options: { thorough: boolean; dryRun: boolean }) {
    return this.#networks.clean({ ...options, isOwned: async (id) => owned.includes(id) });
  }

  async gateway(ports: number[]): Promise<string | undefined> {
    await this.#networks.gateway.allow(ports);
    return this.#networks.gateway.open();
  }
}

await serveCalls(new VmNetworkProcess(await VmNetworks.open({ stateDir })));
