import { constants } from 'node:fs';
import { chmod, chown, copyFile, glob, lchown, link, lstat, mkdir, open, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { hasErrno } from '../../file-errors.ts';
import type { LastWords } from './firecracker-exit.ts';

/** Names in the folder that is Firecracker's working folder, or the root of its jail: what it is told is relative to that. */
export const NAMES = {
  api: 'api.sock',
  agent: 'agent.sock',
  log: 'firecracker.log',
  kernel: 'kernel',
  initrd: 'initrd',
  root: 'root',
  state: 'snapshot.state',
  memory: 'snapshot.memory',
} as const;

/** Name of a slot's disk. Before one is attached it is an empty file: a drive without any has no way of getting one. */
export function slotName(slot: number): string {
  return `slot${slot}`;
}

/** Names in the VM's folder itself, where Firecracker cannot write. */
export const PROCESS_FILE = 'process';
/** Its standard output, which is the guest's console. */
export const CONSOLE_FILE = 'console';
/** Its standard error. */
export const ERROR_FILE = 'errors';
const RUN_FOLDER = 'run';
const JAIL_FOLDER = 'jail';
const DEVICE_FOLDER = 'devices';

/** Bytes of a log's end that are looked at. */
const TAIL_BYTES = 4096;

/** A file of this machine that has to be mounted, since it lies on another file system and cannot be linked. */
export interface Bind {
  source: string;
  target: string;
}

/**
 * The folder in which one Firecracker sees its files. All paths that it is told are names in there, so that a template
 * fits every VM: a snapshot holds those paths, and there is no way to change those of drives.
 */
export class FirecrackerFiles {
  /** Absolute. */
  readonly root: string;
  readonly #folder: string;
  readonly #user: number;

  /** @param jail What the jailer names its folders after: the executable, and the id. */
  constructor(folder: string, { user, jail }: { user: number; jail?: { command: string; id: string } | undefined }) {
    const words = jail === undefined ? [RUN_FOLDER] : [JAIL_FOLDER, basename(jail.command), jail.id, 'root'];
    this.root = join(folder, ...words);
    this.#folder = folder;
    this.#user = user;
  }

  /** Those of a VM that was started before; undefined when there are none. */
  static async find(folder: string): Promise<FirecrackerFiles | undefined> {
    const jailed = await globOne(join(folder, JAIL_FOLDER, '*', '*', 'root'));
    const root = jailed ?? join(folder, RUN_FOLDER);
    const found = await statOf(root);
    if (found === undefined) return undefined;
    const [command = '', id = ''] = jailed === undefined ? [] : jailed.split('/').slice(-3);
    // Sealed: the folder is root's, its group the VMM's.
    return new FirecrackerFiles(folder, { user: found.gid, jail: jailed === undefined ? undefined : { command, id } });
  }

  /** Where the launch has room for device nodes. */
  get deviceFolder(): string {
    return join(this.#folder, DEVICE_FOLDER);
  }

  path(name: string): string {
    return join(this.root, name);
  }

  /** Makes the folders; what an earlier attempt has left goes. */
  async make(): Promise<void> {
    await this.remove();
    await mkdir(this.deviceFolder, { mode: 0o711 });
    await mkdir(this.root, { recursive: true, mode: 0o700 });
    await lchown(this.root, this.#user, this.#user);
  }

  /**
   * Takes the folder from Firecracker, which keeps to reach what is in it: what a guest might make of it can put nothing in
   * the place of the sockets that this machine connects to.
   */
  async seal(): Promise<void> {
    await chown(this.root, 0, this.#user);
    await chmod(this.root, 0o710);
  }

  /** Removes all that Firecracker, and whoever started it, has made in the VM's folder. It has to be gone. */
  async remove(): Promise<void> {
    const names = [RUN_FOLDER, JAIL_FOLDER, DEVICE_FOLDER, PROCESS_FILE, CONSOLE_FILE, ERROR_FILE];
    await Promise.all(names.map(async (name) => rm(join(this.#folder, name), { recursive: true, force: true })));
  }

  /** What is told of an end. */
  async lastWords(): Promise<LastWords> {
    const [log, errors, console] = await Promise.all([
      readTail(this.path(NAMES.log), TAIL_BYTES),
      readTail(join(this.#folder, ERROR_FILE), TAIL_BYTES),
      readTail(join(this.#folder, CONSOLE_FILE), TAIL_BYTES),
    ]);
    return { log, errors, console };
  }

  /** An empty file that Firecracker may write to. */
  async empty(name: string): Promise<void> {
    await rm(this.path(name), { force: true });
    await writeFile(this.path(name), '', { flag: 'wx', mode: 0o600 });
    await lchown(this.path(name), this.#user, this.#user);
  }

  /**
   * Shows a file under a name: as a hard link, which needs no way to where the file lies. What has to be mounted instead,
   * in the place of an empty file, is returned.
   */
  async show(source: string, name: string): Promise<Bind | undefined> {
    const target = this.path(name);
    await rm(target, { force: true });
    if (await isLinked(source, target)) return undefined;
    await writeFile(target, '', { flag: 'wx', mode: 0o600 });
    return { source, target };
  }

  /** As `show()`, for a Firecracker that runs: nothing can be mounted for it any more, so it may have to be a copy. */
  async showLater(source: string, name: string): Promise<void> {
    const bind = await this.show(source, name);
    if (bind === undefined) return;
    await rm(bind.target);
    // oxlint-disable-next-line no-bitwise
    await copyFile(source, bind.target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    await lchown(bind.target, this.#user, this.#user);
  }
}

/** Where the jailer is told to make its folders. */
export function jailBase(folder: string): string {
  return join(folder, JAIL_FOLDER);
}

/** The end of a regular file; empty when there is none. No link is followed: its folder is the VMM's. */
export async function readTail(path: string, bytes: number): Promise<string> {
  try {
    if (!(await lstat(path)).isFile()) return '';
    // oxlint-disable-next-line no-bitwise
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const { size } = await file.stat();
    const buffer = Buffer.alloc(Math.min(size, bytes));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, size - buffer.length);
    // Not what a hole is read as.
    return buffer.subarray(0, bytesRead).toString().replaceAll('\0', '');
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ELOOP')) return '';
    throw error;
  }
}

async function isLinked(source: string, target: string): Promise<boolean> {
  try {
    await link(source, target);
    return true;
  } catch (error) {
    // EPERM: a file system without hard links. EMLINK: a file has as many as there can be.
    if (hasErrno(error, 'EXDEV', 'EPERM', 'EMLINK')) return false;
    throw error;
  }
}

async function globOne(pattern: string): Promise<string | undefined> {
  for await (const path of glob(pattern)) return path;
  return undefined;
}

async function statOf(path: string) {
  try {
    return await lstat(path);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
