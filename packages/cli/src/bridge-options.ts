import type { OciRuntimeOptions } from '@nex-nix/sandbox';
import type { Command } from 'commander';
import { CliError } from './cli-error.ts';
import { type Found, findConflist } from './cni-conflist.ts';
import { parseFolders } from './parse.ts';

/** What a node's network `bridge` is. */
export interface BridgeOptions {
  bridgeName?: string;
  bridgeSubnet?: string;
  cniPath?: string[];
  cniConfig?: string;
  cniNetwork?: string;
  dns?: string[];
}

/** Adds {@link BridgeOptions} to a command. */
export function addBridgeOptions(command: Command): Command {
  return command
    .option(
      '--bridge-name <interface>',
      'interface that connects workloads of network bridge; default: nex0',
      parseInterface,
    )
    .option(
      '--bridge-subnet <subnet>',
      'their addresses, the first is this machine; default: 10.217.64.0/20',
      parseSubnet,
    )
    .option(
      '--cni-path <folders>',
      "folders of CNI plugins, separated by colons; default: CNI_PATH, else Debian's",
      parseFolders,
    )
    .option('--cni-config <file>', 'CNI configuration list that connects them in place of that bridge')
    .option('--cni-network <name>', 'the same by its name in /etc/cni/conf.d; where there is none, that bridge')
    .option('--dns <addresses>', "their name servers, separated by commas; default: this machine's", parseAddresses);
}

/** What was given, as runtimes take it. `warn` is told why a list that was named is not used. */
export async function bridgeNetwork(
  options: BridgeOptions,
  warn: (message: string) => void,
): Promise<NonNullable<OciRuntimeOptions['network']>> {
  const { bridgeName, bridgeSubnet, cniPath, cniNetwork, dns } = options;
  const named: Found =
    options.cniConfig === undefined && cniNetwork !== undefined ? await findConflist(cniNetwork) : {};
  if (named.why !== undefined) warn(named.why);
  const cniConfig = options.cniConfig ?? named.file;
  return {
    ...(bridgeName === undefined ? {} : { bridge: bridgeName }),
    ...(bridgeSubnet === undefined ? {} : { subnet: bridgeSubnet }),
    ...(cniPath === undefined ? {} : { pluginFolders: cniPath }),
    ...(cniConfig === undefined ? {} : { conflist: cniConfig }),
    ...(dns === undefined ? {} : { dns }),
  };
}

/** As the kernel has them: at most 15 characters. */
function parseInterface(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/.test(text)) return text;
  throw new CliError('CLI_USAGE', `Cannot take "${text}" for an interface: write a name of up to 15 characters`);
}

function parseSubnet(text: string): string {
  const [, address = '', bits] = /^([\d.]+)\/(\d{1,2})$/.exec(text) ?? [];
  const parts = address.split('.').map(Number);
  if (parts.length === 4 && parts.every((part) => part < 256) && Number(bits) >= 8 && Number(bits) <= 29) return text;
  throw new CliError('CLI_USAGE', `Cannot take "${text}" for a subnet: write IPv4 addresses such as 10.217.64.0/20`);
}

function parseAddresses(text: string): string[] {
  return text
    .split(',')
    .map((address) => address.trim())
    .filter((address) => address !== '');
}
