import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { hasCode, refused } from '../refused.ts';
import type { GuestLimits, UsageAnswer } from '../../protocol/messages.ts';

const CPU_PERIOD_MICROS = 100_000;

/** One control group, version 2. */
export class Cgroup {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  /** What a process that is to be in it writes its id to. */
  get procs(): string {
    return join(this.folder, 'cgroup.procs');
  }

  /** One in it, under the same limits. */
  make(name: string): Cgroup {
    const folder = join(this.folder, name);
    mkdirSync(folder);
    return new Cgroup(folder);
  }

  /** Throws GuestError GUEST_REFUSED when this guest cannot limit something. */
  limit({ memory, pids, cpus }: GuestLimits): void {
    if (memory !== undefined) {
      this.#set('memory.max', String(memory));
      // A kernel without swap has no such file.
      if (existsSync(join(this.folder, 'memory.swap.max'))) this.#set('memory.swap.max', '0');
    }
    if (pids !== undefined) this.#set('pids.max', String(pids));
    if (cpus !== undefined) {
      this.#set('cpu.max', `${Math.max(1000, Math.round(cpus * CPU_PERIOD_MICROS))} ${CPU_PERIOD_MICROS}`);
    }
  }

  /** Whether the kernel has killed something in it for want of memory, be it the limit's or all of the guest's. */
  get outOfMemory(): boolean {
    return (this.#number('memory.events', /^oom_kill (\d+)$/m) ?? 0) > 0;
  }

  usage(): UsageAnswer {
    const figures = {
      memory: this.#number('memory.current'),
      memoryPeak: this.#number('memory.peak'),
      cpuMicros: this.#number('cpu.stat', /^usage_usec (\d+)$/m),
      pids: this.#number('pids.current'),
    };
    return Object.fromEntries(Object.entries(figures).filter(([, figure]) => figure !== undefined));
  }

  /** Kills everything in it and below it. Resolves when nothing is alive; one that was removed has nothing. */
  async kill(): Promise<void> {
    for (let pause = 1; this.#isPopulated; pause = Math.min(pause * 2, 50)) {
      // Those too that are being forked.
      writeFileSync(join(this.folder, 'cgroup.kill'), '1');
      await delay(pause);
    }
  }

  /** Removes it, and what is below it, once all is dead. */
  async remove(): Promise<void> {
    await this.kill();
    for (const entry of readdirSync(this.folder, { withFileTypes: true })) {
      if (entry.isDirectory()) await removeFolder(join(this.folder, entry.name));
    }
    await removeFolder(this.folder);
  }

  get #isPopulated(): boolean {
    return this.#number('cgroup.events', /^populated (\d)$/m) === 1;
  }

  #set(file: string, value: string): void {
    try {
      writeFileSync(join(this.folder, file), value, { flag: 'r+' });
    } catch (error) {
      throw refused('failed', `Cannot limit the program: "${file}" of its cgroup cannot be written`, { cause: error });
    }
  }

  #number(file: string, pattern = /^(\d+)$/m): number | undefined {
    try {
      const figure = pattern.exec(readFileSync(join(this.folder, file), 'utf8'))?.[1];
      return figure === undefined ? undefined : Number(figure);
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ENODEV')) return undefined;
      throw error;
    }
  }
}

/** The kernel says EBUSY for a moment after the last process has gone. */
async function removeFolder(folder: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      return rmdirSync(folder);
    } catch (error) {
      if (!hasCode(error, 'EBUSY') || attempt === 50) throw error;
    }
    await delay(10);
  }
}
