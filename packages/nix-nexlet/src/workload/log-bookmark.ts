import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { LogPosition } from '@nex-nix/sandbox';

const { O_CREAT, O_WRONLY } = constants;

const FORMAT = /^([A-Za-z0-9-]{1,64}) +(\d+) +(\d+)\n$/;

/** How far the lines of one run were published. */
export interface LogBookmark {
  /** `instance` of its sandbox. */
  readonly run: string;
  readonly position: LogPosition;
}

/** Undefined when nothing was written, or what is there is no bookmark. */
export async function readLogBookmark(file: string): Promise<LogBookmark | undefined> {
  const [, run, stdout, stderr] = FORMAT.exec(await textOf(file)) ?? [];
  return run === undefined ? undefined : { run, position: { stdout: Number(stdout), stderr: Number(stderr) } };
}

/**
 * Writes a bookmark again and again: a line of always the same length over the one before, by one system call, so that
 * whoever reads it after a kill finds one or the other. That takes microseconds, less than to have it done elsewhere. The
 * file is made with the first one. It is not synced to disk: when the machine dies, so does the run.
 */
export class LogBookmarkFile implements Disposable {
  readonly #path: string;
  readonly #run: string;
  #file: number | undefined;

  constructor(path: string, run: string) {
    this.#path = path;
    this.#run = run;
  }

  /** Throws what the file system says when it cannot be written. */
  write({ stdout, stderr }: LogPosition): void {
    this.#file ??= openSync(this.#path, O_CREAT | O_WRONLY, 0o600);
    const text = `${this.#run.padEnd(64)} ${String(stdout).padStart(16)} ${String(stderr).padStart(16)}\n`;
    writeSync(this.#file, text, 0);
  }

  [Symbol.dispose](): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }
}

async function textOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'latin1');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}
