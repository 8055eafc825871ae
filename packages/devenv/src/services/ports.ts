import { once } from 'node:events';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { basename } from 'node:path';
import { DevError } from '../dev-error.ts';

/** Asks nats-server to take any free port. */
export const ANY_PORT = -1;

/**
 * The port to configure: a wanted one must be free; otherwise that of the last time, else the usual one, whichever is free, else
 * {@link ANY_PORT}. 0: not the usual one. A taken one is `DEVENV_PORT_TAKEN`, which names the holder where `/proc` tells it.
 */
export async function choosePort(
  wanted: number | undefined,
  { last, usual }: { last: number | undefined; usual: number },
): Promise<number> {
  if (wanted !== undefined && wanted !== 0) {
    if (await isFree(wanted)) return wanted;
    throw await portTaken(wanted);
  }
  const candidates = [...(last === undefined ? [] : [last]), ...(wanted === 0 ? [] : [usual])];
  for (const port of candidates) if (await isFree(port)) return port;
  return ANY_PORT;
}

/** The error for a port that somebody else listens on. */
export async function portTaken(port: number, cause?: unknown): Promise<DevError> {
  const holder = await portHolder(port);
  const by =
    holder === undefined ? 'it is taken by another program' : `it is taken by ${holder.name} (pid ${holder.pid})`;
  return new DevError('DEVENV_PORT_TAKEN', `Cannot listen on port ${port}: ${by}`, {
    hint: holder === undefined ? 'Choose another port' : `Choose another port, or end that program: kill ${holder.pid}`,
    cause,
  });
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  server.listen({ port, host: '127.0.0.1', exclusive: true });
  try {
    await once(server, 'listening');
  } catch (error) {
    // A port below 1024 is free as far as this function can tell; nats-server will say what is wrong with it.
    if ((error as NodeJS.ErrnoException).code === 'EACCES') return true;
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return false;
    throw error;
  }
  server.close();
  await once(server, 'close');
  return true;
}

/** Who listens on a TCP port, read from `/proc`; undefined where that cannot be read. */
async function portHolder(port: number): Promise<{ pid: number; name: string } | undefined> {
  const inodes = new Set<string>();
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    for (const inode of listeningInodes(await readOrEmpty(table), port)) inodes.add(`socket:[${inode}]`);
  }
  if (inodes.size === 0) return undefined;
  for (const pid of await listOrEmpty('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    for (const fd of await listOrEmpty(`/proc/${pid}/fd`)) {
      const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(unreadable);
      if (target === undefined || !inodes.has(target)) continue;
      // The name that a program gives itself may be that of a thread, as Node's.
      const program = await readlink(`/proc/${pid}/exe`).catch(unreadable);
      const name = program === undefined ? (await readOrEmpty(`/proc/${pid}/comm`)).trim() : basename(program);
      return { pid: Number(pid), name };
    }
  }
  return undefined;
}

/** Inodes of the sockets in state LISTEN (0A) on a port, out of the text of `/proc/net/tcp` (proc(5)). */
export function listeningInodes(table: string, port: number): string[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return table
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1]?.endsWith(suffix) === true && fields[3] === '0A')
    .flatMap((fields) => fields[9] ?? []);
}

async function readOrEmpty(file: string): Promise<string> {
  return (await readFile(file, 'utf8').catch(unreadable)) ?? '';
}

async function listOrEmpty(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(unreadable)) ?? [];
}

/** Processes end, and those of others are closed to us, while `/proc` is read. */
function unreadable(error: unknown): undefined {
  if (
    ['ENOENT', 'EACCES', 'EPERM', 'ESRCH', 'ENOTDIR', 'EINVAL'].includes((error as NodeJS.ErrnoException).code ?? '')
  ) {
    return undefined;
  }
  throw error;
}
