import { readdir, readFile, stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { ServiceName } from '../dev-controls.ts';
import { devPaths } from '../dev-paths.ts';
import { serverPaths } from '../services/server-config.ts';

const POLL_MS = 20;

/** A kind of process that dev services start, and the words on its command line that no other process has. */
interface Kind {
  service: ServiceName;
  marks: readonly string[];
  /** After which one that was told to end is killed, in milliseconds. */
  graceMs: number;
}

/** In the order in which they have to end: the node still needs the server. */
function kindsOf(dataDir: string): Kind[] {
  const { nats, node, cacheToken } = devPaths(dataDir);
  // Somebody may run a node on that folder by hand: that one does not end with its standard input.
  const isChild = '--until-stdin-ends';
  return [
    { service: 'node', marks: ['--state-dir', node, isChild], graceMs: 30_000 },
    { service: 'cache', marks: ['--token-file', cacheToken, isChild], graceMs: 15_000 },
    { service: 'nats', marks: ['-c', serverPaths(nats).config], graceMs: 5000 },
  ];
}

export interface Orphan {
  service: ServiceName;
  pid: number;
}

/** What runs on a data folder, which matters when its dev services are gone. Nothing is changed. */
export async function findOrphans(dataDir: string): Promise<Orphan[]> {
  const found: Orphan[] = [];
  for (const kind of kindsOf(dataDir)) {
    found.push(...(await processesOf(kind)).map((pid) => ({ service: kind.service, pid })));
  }
  return found;
}

/**
 * Ends what runs although its dev services are gone, as they were killed: in good order, with SIGTERM, and with SIGKILL when that does not help.
 * The caller must hold the folder's lock: then whatever still runs on it belongs to nobody.
 */
export async function endOrphans(
  dataDir: string,
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<Orphan[]> {
  const ended: Orphan[] = [];
  for (const kind of kindsOf(dataDir)) {
    for (const pid of await processesOf(kind)) {
      await end(pid, kind, signal);
      ended.push({ service: kind.service, pid });
    }
  }
  return ended;
}

async function end(pid: number, kind: Kind, signal: AbortSignal | undefined): Promise<void> {
  const startTime = await startTimeOf(pid);
  if (startTime === undefined) return;
  // A node and a cache have seen the end of their standard input: a node that is told twice ends at once, leaving its workloads.
  if (kind.service === 'nats') kill(pid, 'SIGTERM');
  const started = performance.now();
  let told = kind.service === 'nats';
  while ((await startTimeOf(pid)) === startTime) {
    const elapsed = performance.now() - started;
    if (elapsed > kind.graceMs) kill(pid, 'SIGKILL');
    else if (!told && elapsed > kind.graceMs / 2) {
      kill(pid, 'SIGTERM');
      told = true;
    }
    await delay(POLL_MS, undefined, { signal });
  }
}

async function processesOf(kind: Kind): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir('/proc')) {
    const pid = Number(name);
    if (Number.isInteger(pid) && pid !== process.pid && (await isOf(pid, kind))) found.push(pid);
  }
  return found;
}

/** Whether it is such a process of this user. */
async function isOf(pid: number, { marks }: Kind): Promise<boolean> {
  const words = (await readOrMissing(`/proc/${pid}/cmdline`))?.split('\0') ?? [];
  return marks.every((mark) => words.includes(mark)) && (await ownerOf(pid)) === process.getuid?.();
}

/**
 * When a process has started, which tells it from any later one of its number; undefined when it is gone, or has ended and nobody has
 * waited for it. Its command line says less: that goes before its files and ports do.
 */
async function startTimeOf(pid: number): Promise<string | undefined> {
  const line = await readOrMissing(`/proc/${pid}/stat`);
  // proc_pid_stat(5): the name is in brackets and may itself hold brackets and spaces.
  const fields = line?.slice(line.lastIndexOf(')') + 2).split(' ') ?? [];
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}

async function ownerOf(pid: number): Promise<number | undefined> {
  return stat(`/proc/${pid}`).then(({ uid }) => uid, ifMissing);
}

async function readOrMissing(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(ifMissing);
}

/** What is of somebody else is as good as missing. */
function ifMissing(error: NodeJS.ErrnoException): undefined {
  if (!['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(error.code ?? '')) throw error;
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
