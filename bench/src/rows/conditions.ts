import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const MEMORY = 512 * 2 ** 20;

/** How the nex command starts what lives long (packages/cli/bin/nex.js). The options are those of this process, by scripts/bench.mjs. */
export const AS_COMMAND = {
  execArgv: process.execArgv,
  env: { ...process.env, MALLOC_ARENA_MAX: '2' },
};

/**
 * A folder that stays until all rows are measured, each folder in it where the file system has most room: ext4 takes several times as
 * long to make files near where some were deleted in the last five minutes, be it by an earlier run of the bench.
 */
export async function lastingDir(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nex-bench-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  // Where the file system knows no such thing, it has no such trouble either.
  await run('chattr', ['+T', folder]).catch(() => undefined);
  return folder;
}

/**
 * What is measured next finds memory that the host has handed out. In a virtual machine whose free pages go back to the host, the
 * first one to write to a page pays up to five times the price of writing, and chance tells which side that is.
 */
export async function warmMemory(): Promise<void> {
  await run(process.execPath, ['--eval', `Buffer.alloc(${MEMORY}, 1)`]);
}
