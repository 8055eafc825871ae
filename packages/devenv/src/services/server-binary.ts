import { execFile } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import { delimiter, isAbsolute, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { DevError } from '../dev-error.ts';

const OLDEST = [2, 9, 0] as const;

/** Folders of system programs, which PATH often lacks for users other than root. */
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Finds nats-server by name or path and checks that it is not too old. Returns its absolute path. */
export async function findNatsServer(
  name = 'nats-server',
  options: { signal?: AbortSignal | undefined } = {},
): Promise<string> {
  const path = await findProgram(name);
  if (path === undefined) {
    throw new DevError('DEVENV_NATS_SERVER_MISSING', `Cannot find "${name}" on PATH`, {
      hint: 'apt-get install nats-server',
    });
  }
  const version = await versionOf(path, options);
  if (isOlder(version, OLDEST)) {
    const message = `Cannot use "${path}": it is version ${version.join('.')}, at least ${OLDEST.join('.')} is needed`;
    throw new DevError('DEVENV_NATS_SERVER_OLD', message, { hint: 'apt-get install nats-server' });
  }
  return path;
}

async function findProgram(name: string): Promise<string | undefined> {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  const candidates = name.includes('/')
    ? [isAbsolute(name) ? name : resolve(name)]
    : [...folders, ...SYSTEM_FOLDERS].map((folder) => join(folder, name));
  for (const candidate of candidates) {
    try {
      await access(candidate, constants.X_OK);
      return candidate;
    } catch (error) {
      if (!['ENOENT', 'EACCES', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
  return undefined;
}

/** The version out of `nats-server: v2.9.10`. */
async function versionOf(path: string, { signal }: { signal?: AbortSignal | undefined }): Promise<number[]> {
  let output: string;
  try {
    output = (await promisify(execFile)(path, ['--version'], { timeout: 10_000, ...(signal ? { signal } : {}) }))
      .stdout;
  } catch (cause) {
    signal?.throwIfAborted();
    throw new DevError('DEVENV_NATS_SERVER_FAILED', `Cannot run "${path}": ${(cause as Error).message}`, { cause });
  }
  const match = /v?(\d+)\.(\d+)\.(\d+)/.exec(output);
  if (match !== null) return match.slice(1).map(Number);
  throw new DevError('DEVENV_NATS_SERVER_FAILED', `Cannot use "${path}": it does not tell its version`, {
    hint: `${path} --version`,
  });
}

function isOlder(version: readonly number[], than: readonly number[]): boolean {
  const differing = than.findIndex((part, index) => part !== version[index]);
  return differing !== -1 && (version[differing] ?? 0) < (than[differing] ?? 0);
}
