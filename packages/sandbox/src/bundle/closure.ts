import { lstatSync, readlinkSync, type Stats } from 'node:fs';
import { join, posix } from 'node:path';
import { hasErrno } from '../file-errors.ts';
import { SandboxError } from '../sandbox-error.ts';
import type { ClosurePath, SandboxSpec } from '../sandbox.ts';

/** As many as the kernel follows (MAXSYMLINKS). */
const MAX_LINKS = 40;

/**
 * Checks that the program of a spec is an executable file once every symbolic link is followed as the sandbox will
 * follow it: through the closure, never through this machine's own folders.
 *
 * @throws SandboxError SANDBOX_PROGRAM_NOT_FOUND, SANDBOX_PROGRAM_NOT_EXECUTABLE
 */
export function checkProgram(spec: Pick<SandboxSpec, 'program' | 'closure'>): void {
  const found = resolveInClosure(spec.program, spec.closure);
  if ('missing' in found) {
    const where = found.missing === spec.program ? '' : ` (it leads to "${found.missing}")`;
    throw new SandboxError(
      'SANDBOX_PROGRAM_NOT_FOUND',
      `Cannot start "${spec.program}": it does not exist in the closure${where}`,
      { hint: `ls ${posix.dirname(spec.program)}` },
    );
  }
  const { stats, path } = found;
  if (!stats.isFile() || (stats.mode & 0o111) === 0) {
    throw new SandboxError(
      'SANDBOX_PROGRAM_NOT_EXECUTABLE',
      `Cannot start "${spec.program}": it is ${stats.isFile() ? 'not executable' : 'not a file'}`,
      { hint: `ls -l ${path}` },
    );
  }
}

type Resolved = { path: string; stats: Stats } | { missing: string };

/**
 * Follows `path`, absolute inside the sandbox, to a file of this machine. Gives the path inside at which the way ends
 * when it leaves the closure, does not exist or runs in circles.
 */
function resolveInClosure(path: string, closure: readonly ClosurePath[]): Resolved {
  const sources = new Map(closure.map(({ storePath, source }) => [storePath, source]));
  let left = path.split('/').filter((part) => part !== '');
  let inside = '/';
  let found: Resolved = { missing: path };
  for (let links = 0; left.length > 0;) {
    const [part = '', ...rest] = left;
    left = rest;
    inside = posix.join(inside, part);
    found = { missing: inside };
    if (inside === '/' || inside === '/nix' || inside === '/nix/store') continue;
    const host = toHost(inside, sources);
    if (host === undefined) return { missing: inside };
    const stats = lstatOrUndefined(host);
    if (stats === undefined) return { missing: inside };
    found = { path: host, stats };
    if (!stats.isSymbolicLink()) continue;
    if (++links > MAX_LINKS) return { missing: inside };
    const target = readlinkSync(host);
    left = [...target.split('/').filter((step) => step !== ''), ...left];
    inside = posix.isAbsolute(target) ? '/' : posix.dirname(inside);
    found = { missing: inside };
  }
  return found;
}

function toHost(inside: string, sources: ReadonlyMap<string, string>): string | undefined {
  const [, , , name = '', ...below] = inside.split('/');
  const source = inside.startsWith('/nix/store/') ? sources.get(`/nix/store/${name}`) : undefined;
  return source === undefined ? undefined : join(source, ...below);
}

function lstatOrUndefined(path: string) {
  try {
    return lstatSync(path);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'ENAMETOOLONG')) return undefined;
    throw error;
  }
}
