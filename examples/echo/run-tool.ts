import { execFile } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { EchoBuildError } from './echo-build-error.ts';

/** Where Nix is after an installation that has not reached PATH yet. */
const NIX_PROFILE = '/nix/var/nix/profiles/default/bin';

export interface RunOptions {
  env?: NodeJS.ProcessEnv;
  signal?: AbortSignal | undefined;
}

/** Absolute path of a program. A missing one is `ECHO_TOOL_MISSING`, with `hint` to install it. */
export async function needTool(name: string, hint: string): Promise<string> {
  for (const folder of [...(process.env['PATH'] ?? '').split(delimiter), NIX_PROFILE]) {
    if (folder === '') continue;
    try {
      await access(join(folder, name), constants.X_OK);
      return join(folder, name);
    } catch (error) {
      if (!['ENOENT', 'EACCES', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
  throw new EchoBuildError('ECHO_TOOL_MISSING', `Cannot find "${name}" on PATH`, { hint });
}

/** Runs a program and returns what it printed. A failure is `ECHO_BUILD_FAILED` with the last lines of its stderr. */
export async function run(path: string, args: string[], { env, signal }: RunOptions = {}): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(path, args, {
      maxBuffer: 64 * 1024 * 1024,
      ...(env === undefined ? {} : { env }),
      ...(signal === undefined ? {} : { signal }),
    });
    return stdout;
  } catch (cause) {
    signal?.throwIfAborted();
    const { stderr = '', message } = cause as Error & { stderr?: string };
    const tail = stderr.trim().split('\n').slice(-3).join(' ').trim();
    throw new EchoBuildError('ECHO_BUILD_FAILED', `Cannot build the echo service with ${path}: ${tail || message}`, {
      cause,
    });
  }
}
