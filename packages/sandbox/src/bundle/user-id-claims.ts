import { mkdirSync, symlinkSync } from 'node:fs';
import { lstat, readdir, readlink, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../file-errors.ts';
import { SandboxError } from '../sandbox-error.ts';
import { allocateIds, type HostIds, type IdExtent } from './user-ids.ts';

/** For all runtimes of this machine, whatever their state folders. Gone after a restart, as are all sandboxes. */
const FOLDER = '/run/nex-nix/user-ids';

/** Where ids are few, most of them may be taken. */
const ATTEMPTS = 1000;

/** How many claims are made between two looks for those whose sandboxes are gone. */
const SWEEP_EVERY = 256;

/**
 * Who has which user ids on this machine: a symbolic link each, named after the ids' first, to the folder of the sandbox.
 * Ids come from a hash, so two sandboxes of a thousand may meet; the link makes the second one take other ids. It counts
 * as long as the folder is there, so nothing has to be given back.
 */
export class UserIdClaims {
  readonly #folder: string;
  #claims = 0;

  constructor(folder = FOLDER) {
    this.#folder = folder;
  }

  /**
   * Ids for the sandbox of a folder: the same ones again as long as nobody else has claimed them.
   *
   * @param extents User ids that exist in this process' own user namespace.
   * @param sandboxFolder One that exists.
   * @throws SandboxError SANDBOX_START_FAILED when none are left
   */
  async claim(extents: readonly IdExtent[], sandboxFolder: string): Promise<HostIds> {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    if (++this.#claims % SWEEP_EVERY === 0) await this.sweep();
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const ids = allocateIds(extents, attempt === 0 ? sandboxFolder : `${sandboxFolder}\0${attempt}`);
      if (await this.#claimOne(String(ids.root), sandboxFolder)) return ids;
    }
    throw new SandboxError(
      'SANDBOX_START_FAILED',
      `Cannot give a user to the sandbox in "${sandboxFolder}": other sandboxes have the user ids of this machine`,
      { hint: 'cat /proc/self/uid_map' },
    );
  }

  async #claimOne(name: string, sandboxFolder: string): Promise<boolean> {
    const link = join(this.#folder, name);
    try {
      symlinkSync(sandboxFolder, link);
      return true;
    } catch (error) {
      if (!hasErrno(error, 'EEXIST')) throw error;
      return (await targetOf(link)) === sandboxFolder;
    }
  }

  /** Removes the claims of sandboxes that are gone. */
  async sweep(): Promise<void> {
    for (const name of await namesIn(this.#folder)) {
      const link = join(this.#folder, name);
      const target = await targetOf(link);
      if (target !== undefined && !(await exists(target))) await rm(link, { force: true });
    }
  }
}

async function targetOf(link: string): Promise<string | undefined> {
  try {
    return await readlink(link);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}
