import { lstat, mkdtemp, readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasErrno } from './file-errors.ts';
import { identityIn, namesIn, removeTree, writeOwner } from './sandbox-folder.ts';
import { identify, isAlive, signalProcess, untilGone } from './supervisor/process-identity.ts';

const PREFIX = 'nex-';

/** A folder that goes when it is disposed of. */
export interface TemporaryFolder extends AsyncDisposable {
  readonly path: string;
}

/**
 * A folder, for nobody else, among this machine's temporary ones. It says whose it is, so that what a killed process leaves is
 * found by {@link lostTemporaryFolders}.
 *
 * @param what Part of its name.
 */
export async function temporaryFolder(what: string): Promise<TemporaryFolder> {
  const path = await mkdtemp(join(tmpdir(), `${PREFIX}${what}-`));
  await writeOwner(path);
  return { path, [Symbol.asyncDispose]: () => removeTree(path) };
}

/** Those of this user whose processes are gone. Others that have such names have no mark of ours, and are not among them. */
export async function lostTemporaryFolders(): Promise<string[]> {
  const found: string[] = [];
  for (const name of (await namesIn(tmpdir())).filter((one) => one.startsWith(PREFIX))) {
    const path = join(tmpdir(), name);
    if (!(await isPrivate(path))) continue;
    const owner = await identityIn(join(path, 'owner'));
    if (owner !== undefined && !(await isAlive(owner))) found.push(path);
  }
  return found;
}

/** Processes of this user that were started with a file in a folder, by their ids. */
export async function processesAt(folder: string): Promise<number[]> {
  const found: number[] = [];
  for (const name of (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))) {
    try {
      if ((await lstat(`/proc/${name}`)).uid !== process.geteuid?.()) continue;
      const words = (await readFile(`/proc/${name}/cmdline`, 'utf8')).split('\0');
      if (words.some((word) => word.startsWith(`${folder}/`))) found.push(Number(name));
    } catch (error) {
      if (!hasErrno(error, 'ENOENT', 'ESRCH', 'EACCES')) throw error;
    }
  }
  return found;
}

/** Kills {@link processesAt}, and waits for their end. */
export async function endProcessesAt(folder: string): Promise<void> {
  const identities = (await processesAt(folder)).map((pid) => identify(pid)).filter((one) => one !== undefined);
  await Promise.all(identities.map((identity) => signalProcess(identity, 'SIGKILL')));
  await Promise.all(identities.map(untilGone));
}

/** The folder for temporary files is everybody's: what somebody else could have put there says nothing. */
async function isPrivate(path: string): Promise<boolean> {
  try {
    const stats = await lstat(path);
    return stats.isDirectory() && stats.uid === process.geteuid?.() && (stats.mode & 0o022) === 0;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw error;
  }
}
