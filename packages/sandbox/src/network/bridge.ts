import { writeFile } from 'node:fs/promises';
import { hasErrno } from '../file-errors.ts';
import { SandboxError } from '../sandbox-error.ts';
import type { NetworkConfig } from './cni-network.ts';
import { demand, runCommand } from './network-command.ts';
import { addressIn, bridgeSubnet, overlap, parseSubnet } from './subnet.ts';

/** What `ip link` shows of an interface that is ours (its `ifalias`). */
const MARK = 'nex-nix';

/** An interface as `ip -json addr` has it; the part that matters. */
interface Link {
  ifname: string;
  ifalias?: string;
  linkinfo?: { info_kind?: string };
  addr_info?: { family: string; local: string; prefixlen: number }[];
}

/** A sandbox at the bridge: what it is called, and the two ends of its cable. */
export interface Container {
  containerId: string;
  /** Interface in its network namespace, which `ip netns` knows by the container's id. */
  inside: string;
  /** Interface of this machine. */
  outside: string;
}

/** The bridge that our sandboxes are connected to, and this machine's address at it. */
export class Bridge {
  readonly name: string;
  /** This machine's address at the bridge: the first of the subnet. */
  readonly gateway: string;
  readonly #subnet: string;
  readonly #bits: number;
  readonly #addresses: string;

  /** `addresses`: folder in which the plugins write down who has which address. */
  constructor({ name, subnet, addresses }: { name: string; subnet: string; addresses: string }) {
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/.test(name)) {
      const message = `Cannot use the name ${JSON.stringify(name)} for a bridge: expected up to 15 letters, digits, "_", "." and "-"`;
      throw new SandboxError('SANDBOX_NETWORK_FAILED', message);
    }
    const range = bridgeSubnet(subnet);
    this.name = name;
    this.#subnet = subnet;
    this.#bits = range.bits;
    this.gateway = addressIn(range, 1);
    this.#addresses = addresses;
  }

  /** The configuration that connects a sandbox to it. */
  conflist(hasPorts: boolean): NetworkConfig {
    const plugins = [
      {
        type: 'bridge',
        bridge: this.name,
        isGateway: true,
        isDefaultGateway: true,
        ipMasq: true,
        hairpinMode: true,
        ipam: { type: 'host-local', dataDir: this.#addresses, ranges: [[{ subnet: this.#subnet }]] },
      },
      // Masquerades what comes from the bridge itself, so that a sandbox reaches its own port and those of others.
      ...(hasPorts ? [{ type: 'portmap', capabilities: { portMappings: true }, snat: true }] : []),
    ];
    return { cniVersion: '1.0.0', name: this.name, plugins };
  }

  /**
   * Makes the bridge unless it is there.
   *
   * @throws SandboxError SANDBOX_NETWORK_FAILED when an interface of somebody else has its name, or a route its addresses
   */
  async ensure(): Promise<void> {
    const link = await this.#find();
    if (link !== undefined && !this.#isOurs(link)) {
      throw this.#error('there is an interface of that name that is not ours', 'Choose another name for the bridge');
    }
    const address = link?.addr_info?.find(({ family }) => family === 'inet');
    if (link?.ifalias === MARK && address?.local === this.gateway && address.prefixlen === this.#bits) return;
    if (address !== undefined) {
      const hint = 'Choose another name for the bridge, or the subnet that it has';
      throw this.#error(`it has the address ${address.local}/${address.prefixlen}, of another subnet`, hint);
    }
    await this.#assertFree();
    await this.#change([
      ...(link === undefined ? [`link add name ${this.name} type bridge`] : []),
      `link set dev ${this.name} alias ${MARK}`,
      `addr add ${this.gateway}/${this.#bits} brd + dev ${this.name}`,
      `link set dev ${this.name} up`,
    ]);
    await setForBridge(`ipv6/conf/${this.name}/disable_ipv6`, '1');
    // No sandbox is to be told of a shorter way to another one.
    await setForBridge(`ipv4/conf/${this.name}/send_redirects`, '0');
  }

  /** Whether it is there, and is ours. */
  async exists(): Promise<boolean> {
    const link = await this.#find();
    return link !== undefined && this.#isOurs(link);
  }

  /** Removes the bridge when it is ours. */
  async remove(): Promise<void> {
    if (await this.exists()) await this.#change([`link delete dev ${this.name} type bridge`]);
  }

  /**
   * Has a connected sandbox send everything to this machine, also what is for others at the bridge: what goes from port to
   * port of a bridge passes no firewall, unless the kernel was told so, and isolated ports would not pass on what exposed
   * ports get where it was. No program in a sandbox may change its routes.
   */
  async routeThroughGateway(container: Container): Promise<void> {
    await demand(
      `set up routes of "${container.containerId}"`,
      ['ip', '-netns', container.containerId, '-batch', '-'],
      {
        input: [
          `route add ${this.gateway} dev ${container.inside} scope link`,
          `route delete ${this.#subnet} dev ${container.inside}`,
          '',
        ].join('\n'),
      },
    );
  }

  /** Has whoever looks at the interfaces of this machine see whose this one is. */
  async mark({ containerId, outside }: Container): Promise<void> {
    await this.#change([`link set dev ${outside} alias ${containerId}`]);
  }

  async #find(): Promise<Link | undefined> {
    const { code, stdout } = await runCommand('ip', ['-json', '-details', 'addr', 'show', 'dev', this.name]);
    return code === 0 ? (JSON.parse(stdout) as Link[])[0] : undefined;
  }

  /** One without any mark and without address is what was left by a process that was killed while it made it. */
  #isOurs({ ifalias, linkinfo, addr_info: addresses = [] }: Link): boolean {
    if (linkinfo?.info_kind !== 'bridge') return false;
    return ifalias === MARK || (ifalias === undefined && !addresses.some(({ family }) => family === 'inet'));
  }

  async #assertFree(): Promise<void> {
    const subnet = bridgeSubnet(this.#subnet);
    const routes = JSON.parse(await demand('read routes', ['ip', '-json', '-4', 'route', 'show'])) as {
      dst: string;
      dev?: string;
    }[];
    for (const { dst, dev } of routes) {
      const other = dst === 'default' ? undefined : parseSubnet(dst);
      if (other === undefined || dev === this.name || !overlap(subnet, other)) continue;
      throw this.#error(
        `${this.#subnet} overlaps with ${dst}, which is reached over "${dev}"`,
        'Choose another subnet',
      );
    }
  }

  async #change(commands: readonly string[]): Promise<void> {
    const input = `${commands.join('\n')}\n`;
    await demand(`set up the bridge "${this.name}"`, ['ip', '-batch', '-'], { input });
  }

  #error(why: string, hint: string): SandboxError {
    return new SandboxError('SANDBOX_NETWORK_FAILED', `Cannot make the bridge "${this.name}": ${why}`, { hint });
  }
}

/** Sets a `net` value of the kernel's, where there is such a thing: kernels without IPv6 exist. */
async function setForBridge(name: string, value: string): Promise<void> {
  try {
    await writeFile(`/proc/sys/net/${name}`, value);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
}

/** Interfaces of this machine whose mark is that of a container, by container id. */
export async function markedLinks(prefix: string): Promise<{ name: string; containerId: string }[]> {
  const links = JSON.parse(await demand('list interfaces', ['ip', '-json', 'link', 'show'])) as Link[];
  return links.flatMap(({ ifname, ifalias }) =>
    ifalias?.startsWith(prefix) ? [{ name: ifname, containerId: ifalias }] : [],
  );
}

/** Removes an interface; nothing happens when it is gone. */
export async function removeLink(name: string): Promise<void> {
  await runCommand('ip', ['link', 'delete', 'dev', name]);
}
