import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../file-errors.ts';
import type { Leftover } from '../sandbox.ts';
import { markedLinks, removeLink } from './bridge.ts';
import { containerChains, removeContainerChains } from './container-rules.ts';
import { namespaceFile, namespacesWith } from './network-namespace.ts';

/** Something on this machine that was made for one container, and names it. */
export interface Trace extends Leftover {
  containerId: string;
}

/**
 * Everything on this machine that was made for containers whose id begins so: network namespaces, interfaces, addresses,
 * chains of the firewall. `addresses`: folder of the plugin `host-local`.
 */
export async function findTraces(prefix: string, addresses: string): Promise<Trace[]> {
  const [namespaces, links, files, chains] = await Promise.all([
    namespacesWith(prefix),
    markedLinks(prefix),
    addressFiles(addresses),
    containerChains(),
  ]);
  const traces: Trace[] = [
    ...namespaces.map((name) => ({ containerId: name, kind: 'network' as const, name: namespaceFile(name) })),
    ...links.map(({ name, containerId }) => ({ containerId, kind: 'network' as const, name })),
    ...files.map(({ file, containerId }) => ({ containerId, kind: 'network' as const, name: file })),
    ...[...chains].flatMap(([containerId, names]) =>
      names.map((name) => ({ containerId, kind: 'firewall rule' as const, name })),
    ),
  ];
  return traces.filter(({ containerId }) => containerId.startsWith(prefix));
}

/** Removes what plugins made for a container, without their help; its network namespace is left. */
export async function removeTraces(containerId: string, addresses: string): Promise<void> {
  await removeContainerChains(containerId);
  for (const link of await markedLinks(containerId)) {
    if (link.containerId === containerId) await removeLink(link.name);
  }
  for (const { file, containerId: owner } of await addressFiles(addresses)) {
    if (owner === containerId) await rm(file, { force: true });
  }
}

/** The files of the plugin `host-local`: `<folder>/<network>/<address>`, the container's id in the first line. */
async function addressFiles(folder: string): Promise<{ file: string; containerId: string }[]> {
  const found: { file: string; containerId: string }[] = [];
  for (const network of await namesIn(folder)) {
    for (const name of await namesIn(join(folder, network))) {
      if (name === 'lock' || name.startsWith('last_reserved_ip')) continue;
      const file = join(folder, network, name);
      const [containerId = ''] = (await readOrEmpty(file)).split(/\r?\n/);
      found.push({ file, containerId });
    }
  }
  return found;
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

async function readOrEmpty(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return '';
    throw error;
  }
}
