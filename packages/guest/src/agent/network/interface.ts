import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const FOLDER = '/sys/class/net';
const ETHERNET = 1;

/** The guest's one network interface; undefined when it has none. */
export interface NetworkInterface {
  name: string;
  index: number;
}

/** Looks for it: an Ethernet interface, rather one with a device behind it than one that the kernel has made up. */
export function findInterface(): NetworkInterface | undefined {
  const names = listNames().filter((name) => number(name, 'type') === ETHERNET);
  const name = names.find((one) => existsSync(join(FOLDER, one, 'device'))) ?? names[0];
  return name === undefined ? undefined : { name, index: number(name, 'ifindex') };
}

/** Bytes that went over it. */
export function traffic({ name }: NetworkInterface): { received: number; sent: number } {
  return { received: number(name, 'statistics/rx_bytes'), sent: number(name, 'statistics/tx_bytes') };
}

function listNames(): string[] {
  return existsSync(FOLDER) ? readdirSync(FOLDER).sort() : [];
}

function number(name: string, file: string): number {
  return Number(readFileSync(join(FOLDER, name, file), 'utf8'));
}
