import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { BridgeOptions } from '../bridge-options.ts';
import { CNI_FOLDER, findConflist, readList } from '../cni-conflist.ts';
import type { Findings, Group, Item, Remedy } from './group.ts';

const NAME = 'CNI Configuration';

/** Bridge and subnet of a configuration list that is written: beside the node's own, which others may use. */
const BRIDGE = 'nexcni0';
const SUBNET = '10.217.80.0/20';

/** The configuration list that workloads are to be connected by, if one was named: the node's own bridge needs none. */
export function cniGroup(options: BridgeOptions, pluginFolders: readonly string[]): Group {
  const { cniConfig, cniNetwork } = options;
  return {
    title: 'CNI configuration requirements',
    look: async () => {
      if (cniConfig !== undefined) return look(cniConfig, { essential: true, options, pluginFolders });
      if (cniNetwork === undefined) return { folders: [], items: [ownBridge(options)] };
      const { file, why = '' } = await findConflist(cniNetwork);
      if (file !== undefined) return look(file, { essential: false, options, pluginFolders });
      const item = { name: NAME, met: false, essential: false, detail: why };
      const wanted = join(CNI_FOLDER, `${cniNetwork}.conflist`);
      return { folders: [{ path: CNI_FOLDER, items: [] }], items: [{ ...item, ...writing(wanted, options) }] };
    },
  };
}

function ownBridge({ bridgeName = 'nex0', bridgeSubnet = '10.217.64.0/20' }: BridgeOptions): Item {
  const detail = `made by the node, for its bridge ${bridgeName} with ${bridgeSubnet}`;
  return { name: NAME, met: true, essential: false, detail };
}

interface Wanted {
  essential: boolean;
  options: BridgeOptions;
  pluginFolders: readonly string[];
}

async function look(file: string, { essential, options, pluginFolders }: Wanted): Promise<Findings> {
  const path = dirname(file);
  const item = { name: NAME, essential };
  const missing = (rest: Pick<Item, 'detail' | 'hint' | 'remedy'>) => ({
    folders: [{ path, items: [] }],
    items: [{ ...item, met: false, ...rest }],
  });
  if (!existsSync(file)) return missing({ detail: `there is no "${file}"`, ...writing(file, options) });
  const list = await readList(file);
  if (list === undefined) {
    return missing({ detail: `"${file}" is no CNI configuration list`, hint: 'It is JSON with a list of "plugins"' });
  }
  const types = (list.plugins ?? []).map(({ type }) => String(type));
  const absent = types.filter((type) => !pluginFolders.some((folder) => existsSync(join(folder, type))));
  if (absent.length === 0) return { folders: [{ path, items: [{ ...item, met: true, detail: file }] }], items: [] };
  const detail = `"${file}" names the plugin ${absent.map((type) => `"${type}"`).join(', ')}, which is in no folder of plugins`;
  return missing({ detail, hint: `Put it into one of ${pluginFolders.join(', ')}, or name its folder by --cni-path` });
}

function writing(
  file: string,
  { bridgeName = BRIDGE, bridgeSubnet = SUBNET }: BridgeOptions,
): { hint: string; remedy: Remedy } {
  const what = `write ${file}: bridge ${bridgeName} with ${bridgeSubnet}`;
  const run = async () => {
    await mkdir(dirname(file), { recursive: true });
    const list = conflist(basename(file, '.conflist'), { bridge: bridgeName, subnet: bridgeSubnet });
    // Somebody may have written one meanwhile.
    await writeFile(file, `${JSON.stringify(list, undefined, 2)}\n`, { flag: 'wx', mode: 0o644 });
  };
  return { hint: 'Write one, or have nex node preflight --yes do it', remedy: { what, run } };
}

/** As of the CNI specification 1.0.0. */
function conflist(name: string, { bridge, subnet }: { bridge: string; subnet: string }) {
  const ipam = { type: 'host-local', ranges: [[{ subnet }]] };
  const plugins = [
    { type: 'bridge', bridge, isGateway: true, isDefaultGateway: true, ipMasq: true, hairpinMode: true, ipam },
    { type: 'portmap', capabilities: { portMappings: true }, snat: true },
  ];
  return { cniVersion: '1.0.0', name, plugins };
}
