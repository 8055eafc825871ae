import { readFile } from 'node:fs/promises';
import { isIPv4 } from 'node:net';
import { hasErrno } from '../file-errors.ts';

/** How names are resolved: text of a `/etc/resolv.conf`, and the name servers that it lists. */
export interface Resolver {
  text: string;
  nameservers: readonly string[];
}

/** Where systemd-resolved lists the servers that it asks itself; `/etc/resolv.conf` then has 127.0.0.53. */
const RESOLVED = '/run/systemd/resolve/resolv.conf';

/** Text of this machine's own. */
export async function hostResolvConf(): Promise<string> {
  return readOrEmpty('/etc/resolv.conf');
}

/**
 * What a sandbox at a bridge can use: the servers that were named, else those of this machine that are reached over IPv4
 * and not over its loopback interface, else none.
 */
export async function bridgeResolver(named: readonly string[] | undefined): Promise<Resolver> {
  const text = await hostResolvConf();
  if (named !== undefined) return resolverOf(named, text);
  const own = usableServers(text);
  return own.length > 0 ? resolverOf(own, text) : resolverOf(usableServers(await readOrEmpty(RESOLVED)), text);
}

/** IPv4 addresses of the servers that a resolv.conf(5) names, without those of a loopback interface. */
export function usableServers(text: string): string[] {
  return [...text.matchAll(/^nameserver\s+(\S+)/gm)]
    .map(([, address = '']) => address)
    .filter((address) => isIPv4(address) && !address.startsWith('127.') && address !== '0.0.0.0');
}

function resolverOf(nameservers: readonly string[], text: string): Resolver {
  const others = text.split('\n').filter((line) => /^(search|domain|options)\s/.test(line));
  const lines = [...nameservers.map((address) => `nameserver ${address}`), ...(nameservers.length > 0 ? others : [])];
  return { text: lines.map((line) => `${line}\n`).join(''), nameservers };
}

async function readOrEmpty(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return '';
    throw error;
  }
}
