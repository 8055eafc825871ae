import { existsSync } from 'node:fs';
import type { GuestNetwork } from '@nex-nix/guest';
import type { Gateway, Leftover, Requirement, SandboxSpec, Usage } from '../sandbox.ts';
import { SandboxError } from '../sandbox-error.ts';
import type { NetworkOptions } from './network-options.ts';
import { Networks } from './networks.ts';
import { linkUsage, macOf, makeTap, moveBehindTap, TAP } from './vm-link.ts';

/** Where tap devices are opened. */
const TUN = '/dev/net/tun';

/** How a virtual machine is connected. */
export interface VmAttachment {
  /** What its guest is told; absent: its interface has no link. */
  network?: GuestNetwork;
  /** Addresses at which this machine reaches it. */
  addresses: readonly string[];
  /** Text of its `/etc/resolv.conf`. */
  resolvConf: string;
}

/**
 * The networks of virtual machines: the same as those of other sandboxes, whose addresses are moved behind a tap device. A
 * machine is there before what it will run is known, so its namespace is made with it, and connected later. Ids are those
 * of machines.
 */
export class VmNetworks {
  /** Whether machines can be connected on this machine. */
  readonly available: boolean;
  readonly #networks: Networks;

  private constructor(networks: Networks, available: boolean) {
    this.#networks = networks;
    this.available = available;
  }

  /** Makes nothing. `stateDir`: tells these machines from those of other runtimes. */
  static async open(options: NetworkOptions & { stateDir: string }): Promise<VmNetworks> {
    const networks = new Networks(options);
    const { met } = await networks.check();
    return new VmNetworks(networks, met && existsSync(TUN));
  }

  /**
   * Makes a network namespace with a tap device for processes of `user`; nothing goes through that yet.
   *
   * @throws SandboxError SANDBOX_NETWORK_FAILED; nothing is left then
   */
  async prepare(id: string, user: number): Promise<{ namespace: string; name: string; mac: string }> {
    const namespace = await this.#networks.prepare(id, (name) => makeTap(name, user));
    return { namespace, name: TAP, mac: macOf(namespace) };
  }

  /**
   * Connects a machine that was prepared to the network that a sandbox asks for. What was made of a call that fails goes
   * with `detach()`.
   *
   * @throws SandboxError SANDBOX_NETWORK_FAILED, SANDBOX_PORT_TAKEN, SANDBOX_SPEC_INVALID
   */
  async connect(id: string, spec: Pick<SandboxSpec, 'id' | 'network' | 'exposePorts'>): Promise<VmAttachment> {
    if (spec.network === 'host') {
      const message = `Cannot connect the sandbox "${spec.id}": a virtual machine cannot share the network of this one`;
      throw new SandboxError('SANDBOX_SPEC_INVALID', message, { hint: 'Ask for the network "bridge" or "none"' });
    }
    if (spec.network === 'none') return { addresses: [], resolvConf: '' };
    return this.#networks.connect(id, spec, async ({ namespace, inside, addresses, gateways, resolvConf }) => {
      const plain = addresses.map((address) => address.split('/')[0] ?? '');
      const mtu = await moveBehindTap(namespace, { addresses: plain, inside, gateways });
      const network = { mac: macOf(namespace), addresses: [...addresses], gateways: [...gateways], mtu };
      return { network, addresses: plain, resolvConf };
    });
  }

  /** Addresses at which this machine reaches another one that is connected. */
  async addresses(id: string): Promise<readonly string[]> {
    return (await this.#networks.find(id))?.addresses ?? [];
  }

  /** What went over the network of a machine; undefined when it is not connected. */
  async usage(id: string): Promise<Usage['network']> {
    const found = await this.#networks.find(id);
    return found?.inside === undefined ? undefined : linkUsage(found.name, found.inside);
  }

  /** Takes back everything that was made for a machine, which has ended. Nothing happens when there is nothing. */
  async detach(id: string): Promise<void> {
    await this.#networks.detach(id);
  }

  /** This machine's side of the bridge. */
  get gateway(): Gateway {
    return this.#networks.gateway;
  }

  async check(): Promise<Requirement> {
    const requirement = await this.#networks.check();
    if (!requirement.met || existsSync(TUN)) return requirement;
    return { ...requirement, met: false, detail: `this machine has no "${TUN}"`, hint: 'modprobe tun' };
  }

  /** As {@link Networks.clean}. */
  async clean(options: Parameters<Networks['clean']>[0]): Promise<Leftover[]> {
    return this.#networks.clean(options);
  }
}
