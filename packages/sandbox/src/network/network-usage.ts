import { readFile } from 'node:fs/promises';
import { hasErrno } from '../file-errors.ts';
import type { Usage } from '../sandbox.ts';

/** Bytes over the interfaces of the network namespace that a process lives in; undefined when it is gone. */
export async function networkUsage(pid: number): Promise<Usage['network']> {
  try {
    return parseNetDev(await readFile(`/proc/${pid}/net/dev`, 'utf8'));
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH', 'EINVAL')) return undefined;
    throw error;
  }
}

/** Sums up `/proc/<pid>/net/dev`, loopback left out: name, then eight figures received, then eight sent, bytes first. */
export function parseNetDev(text: string): { received: number; sent: number } {
  const total = { received: 0, sent: 0 };
  for (const line of text.split('\n')) {
    const [, name, figures = ''] = /^\s*([^\s:]+):\s*(.*)$/.exec(line) ?? [];
    if (name === undefined || name === 'lo') continue;
    const columns = figures.split(/\s+/).map(Number);
    total.received += columns[0] ?? 0;
    total.sent += columns[8] ?? 0;
  }
  return total;
}
