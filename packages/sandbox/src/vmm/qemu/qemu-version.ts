import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { findExecutable } from '../../find-executable.ts';
import { SandboxError } from '../../sandbox-error.ts';

const run = promisify(execFile);

export const QEMU_COMMAND = 'qemu-system-x86_64';

/** What we have been run with, and what it needs at least: `-action panic`, a stable `blockdev-reopen`. */
export const TESTED = '7.2';
const OLDEST = [7, 1] as const;

export const QEMU_HINT = 'apt-get install qemu-system-x86';

/** A QEMU that is installed. */
export interface Qemu {
  /** Absolute path. */
  path: string;
  /** Whole first line, which names the distribution's build. */
  version: string;
  major: number;
  minor: number;
}

/**
 * Finds QEMU.
 *
 * @throws SandboxError SANDBOX_VMM_MISSING when it is not there, or too old
 */
export async function findQemu(command: string): Promise<Qemu> {
  const missing = (why: string, cause?: unknown) =>
    new SandboxError('SANDBOX_VMM_MISSING', `Cannot run guests with QEMU: ${why}`, {
      hint: QEMU_HINT,
      ...(cause === undefined ? {} : { cause }),
    });
  const path = await findExecutable(command);
  if (path === undefined) throw missing(`"${command}" is not on PATH`);
  let said: string;
  try {
    said = (await run(path, ['--version'], { timeout: 10_000 })).stdout;
  } catch (error) {
    throw missing(`"${path} --version" fails: ${(error as Error).message}`, error);
  }
  const [version = ''] = said.split('\n');
  const numbers = /version (\d+)\.(\d+)/.exec(version);
  if (numbers === null) throw missing(`"${path}" says "${version}", which is no version of QEMU`);
  const [major, minor] = [Number(numbers[1]), Number(numbers[2])];
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
    throw missing(`"${path}" is ${version}, and ${OLDEST.join('.')} is needed`);
  }
  return { path, version, major, minor };
}

/** Whether a guest's memory can be a file that QEMU can only read: `rom=off` of memory-backend-file came with 8.2. */
export function sharesMemory({ major, minor }: Qemu): boolean {
  return major > 8 || (major === 8 && minor >= 2);
}
