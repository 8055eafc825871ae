import { findExecutable } from '../find-executable.ts';
import type { Requirement } from '../sandbox.ts';
import { findPlugin } from './cni-plugin.ts';
import type { NetworkSettings } from './network-options.ts';
import { bridgeResolver } from './resolv-conf.ts';

const PLUGINS = ['bridge', 'host-local', 'portmap'];
const COMMANDS = ['ip', 'iptables-save', 'iptables-restore', 'unshare', 'mount', 'umount'];

/** What the network `bridge` needs of a machine. */
export async function networkRequirement({ pluginFolders, conflist, dns }: NetworkSettings): Promise<Requirement> {
  const requirement = { name: 'bridge network', essential: false };
  const plugins = conflist === undefined ? PLUGINS : [];
  const commands = conflist === undefined ? COMMANDS : ['ip', 'unshare', 'mount', 'umount'];
  const missing = [
    ...(await absent(plugins, (type) => findPlugin(type, pluginFolders))).map((type) => `the CNI plugin "${type}"`),
    ...(await absent(commands, findExecutable)).map((command) => `"${command}"`),
  ];
  if (missing.length > 0) {
    return {
      ...requirement,
      met: false,
      detail: `missing: ${missing.join(', ')} (plugins are looked for in ${pluginFolders.join(', ')})`,
      hint: 'apt-get install containernetworking-plugins iptables iproute2',
    };
  }
  const { nameservers } = await bridgeResolver(dns);
  const servers =
    nameservers.length > 0 ? `name servers ${nameservers.join(', ')}` : 'no name server that it can reach';
  return { ...requirement, met: true, detail: `${conflist ?? 'available'}, ${servers}` };
}

async function absent(names: readonly string[], find: (name: string) => Promise<string | undefined>) {
  const found = await Promise.all(names.map(find));
  return names.filter((_, index) => found[index] === undefined);
}
