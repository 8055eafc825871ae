import { delimiter } from 'node:path';

/** The network `bridge`. */
export interface NetworkOptions {
  /** Name of the bridge. @default 'nex0' */
  bridge?: string;
  /** IPv4 addresses of sandboxes; the first is this machine's own. @default '10.217.64.0/20' */
  subnet?: string;
  /** Folders of the CNI plugins. @default those of CNI_PATH, else where Debian and others install them */
  pluginFolders?: readonly string[];
  /**
   * Path of a CNI configuration list (conflist) that connects sandboxes in place of the bridge. Who may reach whom is up to
   * it then: no firewall rule of ours is made, and there is no {@link Gateway}.
   */
  conflist?: string;
  /** Name servers of sandboxes. @default this machine's own, as far as they can be reached over IPv4 */
  dns?: readonly string[];
  /** Where is written down what is connected on this machine. Must not outlive it. @default '/run/nex-nix' */
  runDir?: string;
}

/** Debian's, the one of the specification, and NixOS'. */
const PLUGIN_FOLDERS = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni', '/run/current-system/sw/bin'];

/** The options with their defaults. */
export function networkSettings(options: NetworkOptions) {
  const { bridge = 'nex0', subnet = '10.217.64.0/20', runDir = '/run/nex-nix' } = options;
  const named = options.pluginFolders ?? (process.env['CNI_PATH'] ?? '').split(delimiter).filter(Boolean);
  return { ...options, bridge, subnet, runDir, pluginFolders: named.length > 0 ? named : PLUGIN_FOLDERS };
}

/** Folders that CNI plugins are looked for in, in this order. */
export function cniPluginFolders(options: NetworkOptions): readonly string[] {
  return networkSettings(options).pluginFolders;
}

export type NetworkSettings = ReturnType<typeof networkSettings>;
