import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Tells a process from one that got its number later: source `/proc/<pid>/stat`, field 22, and the boot. */
interface Mark {
  pid: number;
  /** In clock ticks since the boot. */
  started: string;
  boot: string;
}

/**
 * Which processes a node has started, each leader of a group of its own: one file each, so that a node that was killed
 * finds them again at its next start.
 */
export class ProcessMarks {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Notes a process under a name. Does nothing where the system does not tell when a process has started. */
  async add(name: string, pid: number): Promise<void> {
    const mark = await markOf(pid);
    if (mark === undefined) return;
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    await writeFile(join(this.#dir, name), JSON.stringify(mark));
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.#dir, name), { force: true });
  }

  /** Kills the groups of those that still run, and returns the process numbers of their leaders. Forgets all. */
  async endLeftovers(): Promise<number[]> {
    const ended: number[] = [];
    for (const name of await namesIn(this.#dir)) {
      const mark = await readMark(join(this.#dir, name));
      if (mark !== undefined && isSame(mark, await markOf(mark.pid))) {
        killGroup(mark.pid, 'SIGKILL');
        ended.push(mark.pid);
      }
      await this.remove(name);
    }
    return ended;
  }
}

/** Signals every process of a group; whether there was one. */
export function killGroup(leader: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(-leader, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

async function markOf(pid: number): Promise<Mark | undefined> {
  try {
    const [stat, boot] = await Promise.all([
      readFile(`/proc/${pid}/stat`, 'utf8'),
      readFile('/proc/sys/kernel/random/boot_id', 'utf8'),
    ]);
    // The name in parentheses may hold spaces and parentheses; what follows it begins with field 3.
    const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    return started === undefined ? undefined : { pid, started, boot: boot.trim() };
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

function isSame(mark: Mark, now: Mark | undefined): boolean {
  return now !== undefined && now.started === mark.started && now.boot === mark.boot;
}

/** A file that was not written to its end says nothing. */
async function readMark(file: string): Promise<Mark | undefined> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  if (typeof parsed !== 'object' || parsed === null) return undefined;
  const { pid, started, boot } = parsed as Partial<Mark>;
  const whole = typeof pid === 'number' && pid > 1 && typeof started === 'string' && typeof boot === 'string';
  return whole ? { pid, started, boot } : undefined;
}

async function namesIn(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
