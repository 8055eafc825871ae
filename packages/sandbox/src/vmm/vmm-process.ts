import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat } from 'node:fs/promises';
import { hasErrno } from '../file-errors.ts';
import {
  isAlive,
  parseIdentity,
  type ProcessIdentity,
  readProc,
  signalProcess,
  untilGone,
} from '../supervisor/process-identity.ts';

/** The process of a VMM, from the script that becomes it on; started by this process, or by an earlier one. */
export class VmmProcess {
  readonly identity: ProcessIdentity;
  readonly #ended: Promise<void> | undefined;
  readonly #child: ChildProcess | undefined;

  /** `child`: when this process has started it. */
  constructor(identity: ProcessIdentity, child?: ChildProcess) {
    this.identity = identity;
    this.#child = child;
    this.#ended = child === undefined ? undefined : once(child, 'exit').then(() => undefined);
  }

  get pid(): number {
    return this.identity.pid;
  }

  async isAlive(): Promise<boolean> {
    return isAlive(this.identity);
  }

  /** Resolves when it is gone. Call it when that is about to be: of a process that is not ours nothing tells. */
  async ended(): Promise<void> {
    await (this.#ended ?? untilGone(this.identity));
  }

  async kill(): Promise<void> {
    await signalProcess(this.identity, 'SIGKILL');
    await this.ended();
  }

  /** Bytes of its resident set; 0 when it is gone. */
  get memory(): number {
    const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readProc(`${this.pid}/status`) ?? '')?.[1];
    return Number(kib ?? 0) * 1024;
  }

  /** Whether its working folder is this one, in whatever mount namespace. */
  async isIn(folder: string): Promise<boolean> {
    try {
      const [there, wanted] = await Promise.all([stat(`/proc/${this.pid}/cwd/.`), stat(folder)]);
      return there.dev === wanted.dev && there.ino === wanted.ino;
    } catch (error) {
      if (hasErrno(error, 'ENOENT', 'ESRCH', 'EACCES', 'ENOTDIR')) return false;
      throw error;
    }
  }

  /** It may run on when this process ends. */
  unref(): void {
    this.#child?.unref();
  }
}

/** The process that a launch wrote down; undefined when it is gone, or nothing was written. */
export async function readProcess(file: string): Promise<VmmProcess | undefined> {
  try {
    const identity = parseIdentity(await readFile(file, 'utf8'));
    if (identity === undefined || !(await isAlive(identity))) return undefined;
    return new VmmProcess(identity);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
