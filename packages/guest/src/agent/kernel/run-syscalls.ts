import { type ChildProcess, spawn, spawnSync, type StdioOptions } from 'node:child_process';
import { unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { getSystemErrorName } from 'node:util';
import { REPORT_FD } from './syscall-machine.ts';
import type { SyscallList, SyscallName } from './syscall-list.ts';

const REPORT_BYTES = 16;

/** A system call that failed. */
export class SyscallError extends Error {
  readonly call: SyscallName;
  /** Its name, and the texts among its arguments. */
  readonly text: string;
  /** `ENOENT` and the like. */
  readonly code: string;

  constructor(call: { name: SyscallName; text: string }, errno: number) {
    const code = getSystemErrorName(-errno);
    super(`${call.text}: ${code}`);
    this.call = call.name;
    this.text = call.text;
    this.code = code;
  }
}

/** The first three descriptors of what is executed. */
export type Streams = readonly ['ignore' | 'pipe' | number, 'ignore' | 'pipe' | number, 'ignore' | 'pipe' | number];

export interface Launched {
  child: ChildProcess;
  /**
   * Resolves when all calls were made: the process has ended, or has executed something else after it had marked the
   * descriptor for reports to be closed then. Rejects with a {@link SyscallError}.
   */
  done: Promise<void>;
}

/** Makes system calls in processes of their own, whose files are in a folder that only we can read. */
export class Kernel {
  readonly #folder: string;
  #count = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Makes them, and returns what they wrote to descriptor 1. Nothing else happens meanwhile: that takes a third less of the
   * processor's time than to wait for events. Throws a {@link SyscallError}.
   */
  run(list: SyscallList): Buffer {
    const file = this.#write(list.call('exit_group', 0));
    try {
      const { error, output } = spawnSync(file, [], { stdio: ['ignore', 'pipe', 'ignore', 'pipe'], env: {} });
      if (error !== undefined) throw error;
      throwReported(output[REPORT_FD] as unknown as Buffer, list);
      return output[1] as unknown as Buffer;
    } finally {
      unlinkSync(file);
    }
  }

  /** Begins to make them, in a session of their own. */
  launch(list: SyscallList, streams: Streams): Launched {
    const file = this.#write(list);
    const stdio: StdioOptions = [...streams, 'pipe'];
    let child: ChildProcess;
    try {
      child = spawn(file, [], { stdio, env: {}, detached: true });
    } finally {
      // The new process has executed it by now, or never will: environments with secrets do not stay in files.
      unlinkSync(file);
    }
    return { child, done: reported(child, list) };
  }

  #write(list: SyscallList): string {
    const file = join(this.#folder, `calls-${this.#count++}`);
    writeFileSync(file, list.executable(), { mode: 0o700, flag: 'wx' });
    return file;
  }
}

async function reported(child: ChildProcess, list: SyscallList): Promise<void> {
  const report = child.stdio[REPORT_FD] as Readable | null;
  const bytes = await new Promise<Buffer>((resolve, reject) => {
    const chunks: Buffer[] = [];
    child.once('error', reject);
    report?.on('data', (chunk: Buffer) => chunks.push(chunk));
    report?.once('error', reject);
    report?.once('close', () => resolve(Buffer.concat(chunks)));
  });
  throwReported(bytes, list);
}

function throwReported(report: Buffer, list: SyscallList): void {
  if (report.length < REPORT_BYTES) return;
  const call = list.describe(report.readBigUInt64LE(0)) ?? { name: 'exit_group' as const, text: 'an unknown call' };
  throw new SyscallError(call, -Number(report.readBigInt64LE(8)));
}
