import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The file of a configuration list, or why there is none to use. */
export interface Found {
  readonly file?: string;
  readonly why?: string;
}

/** Where configuration lists of this machine are. */
export const CNI_FOLDER = '/etc/cni/conf.d';

/** Makes a tap of its own for a VMM that takes it over. Runtimes of this project make theirs by themselves. */
const FOREIGN_PLUGIN = 'tc-redirect-tap';

/** Looks for the configuration list of a network, by the name that it bears inside. What is none is passed over. */
export async function findConflist(name: string, folder: string = CNI_FOLDER): Promise<Found> {
  const own = "the node's own bridge is used";
  for (const entry of (await namesIn(folder)).filter((file) => file.endsWith('.conflist')).toSorted()) {
    const file = join(folder, entry);
    const list = await readList(file);
    if (list?.name !== name) continue;
    const isForeign = list.plugins?.some(({ type }) => type === FOREIGN_PLUGIN) ?? false;
    return isForeign ? { why: `"${file}" is for another VMM's taps (${FOREIGN_PLUGIN}): ${own}` } : { file };
  }
  return { why: `there is no CNI configuration list named "${name}" in "${folder}": ${own}` };
}

export interface List {
  readonly name?: unknown;
  readonly plugins?: readonly { readonly type?: unknown }[];
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** Undefined when it is no JSON object with a list of plugins: whoever uses it by its path is told what is wrong with it. */
export async function readList(file: string): Promise<List | undefined> {
  let list: unknown;
  try {
    list = JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  const { plugins } = (list ?? {}) as List;
  return Array.isArray(plugins) ? (list as List) : undefined;
}
