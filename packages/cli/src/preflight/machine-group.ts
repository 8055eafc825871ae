import { once } from 'node:events';
import { statfs } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import { formatBytes } from '../output.ts';
import type { Group, Item } from './group.ts';

/** Less is soon full of closures, logs and guests. */
const LEAST_FREE = 2 * 2 ** 30;

/** In less than this hardly any closure has room. */
const NEEDED_FREE = 256 * 2 ** 20;

/** Room for what the node keeps, and the ports that it was told to listen on. */
export function machineGroup({ stateDir, ports, address }: MachineNeeds): Group {
  return {
    title: 'This machine',
    look: async () => ({
      folders: [],
      items: [await diskItem(stateDir), ...(await Promise.all(ports.map((port) => portItem(port, address))))],
    }),
  };
}

interface MachineNeeds {
  stateDir: string;
  ports: readonly number[];
  /** Where these are listened on. */
  address: string;
}

async function diskItem(stateDir: string): Promise<Item> {
  const folder = await existing(stateDir);
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  const item = {
    name: 'disk space',
    essential: free < NEEDED_FREE,
    detail: `${formatBytes(free)} free for ${stateDir}`,
  };
  return free >= LEAST_FREE
    ? { ...item, met: true }
    : { ...item, met: false, hint: 'Give a folder on another disk by --state-dir, or remove what is not needed' };
}

/** The folder, or the nearest one above it that is there for this user. */
async function existing(folder: string): Promise<string> {
  try {
    await statfs(folder);
    return folder;
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (!['ENOENT', 'EACCES'].includes(code) || folder === dirname(folder)) throw error;
    return existing(dirname(folder));
  }
}

async function portItem(port: number, address: string): Promise<Item> {
  const item = { name: `port ${port}`, essential: true };
  const server = createServer();
  try {
    server.listen(port, address);
    await once(server, 'listening');
    return { ...item, met: true, detail: `port ${port} of ${address} is free` };
  } catch (error) {
    const detail = `cannot be listened on: ${(error as Error).message}`;
    return { ...item, met: false, detail, hint: `See who has it: ss -ltnp 'sport = :${port}'` };
  } finally {
    server.close();
  }
}
