import { createHash } from 'node:crypto';
import { statSync, utimesSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { buildErofs } from '@nex-nix/guest';
import { abortable } from '../abortable.ts';
import { hasErrno } from '../file-errors.ts';
import { namesIn } from '../sandbox-folder.ts';
import type { ClosurePath } from '../sandbox.ts';

/** Part of each disk's name: disks of another way to build them are not found. */
const FORMAT = 'erofs-1';
/** Who asks for a disk holds it soon after; until then it is not collected. In milliseconds. */
const RECENT_MS = 60_000;

const BOOT_ID = '/proc/sys/kernel/random/boot_id';
/** Names in the folder: `<key>.erofs`, `<key>.json`, and which boot of the machine they are of. */
const KEY = /^(?<key>[0-9a-f]{64})\.json$/;
const BOOT_FILE = 'boot';

export interface WorkloadDisksOptions {
  /** Belongs to one process at a time. */
  folder: string;
  /** Bytes that disks may take before those go that nobody has used for longest. */
  budget: number;
  /** Whether the folder is made and tidied up; otherwise it is only asked for its files. @default true */
  tidy?: boolean;
}

/** A read-only disk: an erofs image with the store paths by their base names. Shared by all that run the same closure. */
export interface WorkloadDisk {
  /** Absolute path. */
  file: string;
  /** In bytes. */
  size: number;
  /** Keeps the disk from being collected until it is disposed. */
  hold(): Disposable;
}

interface Known {
  storePaths: readonly string[];
  size: number;
  /** Milliseconds of the Unix epoch. */
  usedAt: number;
  holds: number;
}

/**
 * The closure disks of a machine: built once for each set of store paths, and kept. A cache: killed at any moment it
 * loses no more than the disk that was being built.
 */
export class WorkloadDisks {
  readonly #folder: string;
  readonly #budget: number;
  readonly #known = new Map<string, Known>();
  readonly #building = new Map<string, Promise<Known>>();

  private constructor({ folder, budget }: WorkloadDisksOptions) {
    this.#folder = folder;
    this.#budget = budget;
  }

  /** Opens the folder, which is made when it is not there, and removes what a killed process has left half done. */
  static async open(options: WorkloadDisksOptions): Promise<WorkloadDisks> {
    const disks = new WorkloadDisks(options);
    if (options.tidy !== false) await disks.#load();
    return disks;
  }

  /**
   * The disk of a set of store paths. `signal` ends the waiting; a build that others may wait for goes on.
   *
   * @throws GuestError GUEST_TOOL_MISSING, GUEST_BUILD_FAILED
   */
  async disk(
    paths: readonly ClosurePath[],
    { signal }: { signal?: AbortSignal | undefined } = {},
  ): Promise<WorkloadDisk> {
    signal?.throwIfAborted();
    const storePaths = paths.map(({ storePath }) => storePath).sort();
    const key = createHash('sha256')
      .update(JSON.stringify([FORMAT, storePaths]))
      .digest('hex');
    const known = this.#present(key) ?? (await abortable(this.#build(key, { paths, storePaths }), signal));
    return this.#use(key, known);
  }

  /**
   * Removes the disks with a store path that the store no longer has, and, until the rest is within the budget, those that
   * were not used for longest. What is held, or was asked for a moment ago, stays.
   */
  async collect({ isPresent }: { isPresent: (storePath: string) => boolean | Promise<boolean> }): Promise<void> {
    for (const [key, known] of this.#known) {
      const present = await Promise.all(known.storePaths.map(async (storePath) => isPresent(storePath)));
      if (!present.every(Boolean) && isUnused(known)) await this.#remove(key);
    }
    await this.#trim();
  }

  /** Everything in the folder, half built or whole. */
  async files(): Promise<string[]> {
    const names = await namesIn(this.#folder);
    return names.filter((name) => name !== BOOT_FILE).map((name) => join(this.#folder, name));
  }

  async #load(): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    // What was written before the machine went down may not have reached the disk, and nothing tells.
    const boot = await readFile(BOOT_ID, 'utf8');
    const isOfThisBoot = (await readOrUndefined(join(this.#folder, BOOT_FILE))) === boot;
    const names = await readdir(this.#folder);
    const kept = new Set([BOOT_FILE]);
    for (const name of isOfThisBoot ? names : []) {
      const key = KEY.exec(name)?.groups?.['key'];
      const known = key === undefined ? undefined : await this.#recorded(key);
      if (key === undefined || known === undefined) continue;
      this.#known.set(key, known);
      kept.add(name).add(basename(this.#file(key)));
    }
    for (const name of names) {
      if (!kept.has(name)) await rm(join(this.#folder, name), { recursive: true, force: true });
    }
    await writeWhole(join(this.#folder, BOOT_FILE), boot);
  }

  /** What is written down of a disk, if the disk is there and whole. */
  async #recorded(key: string): Promise<Known | undefined> {
    const stats = statSync(this.#file(key), { throwIfNoEntry: false });
    if (stats === undefined) return undefined;
    const { size, storePaths } = JSON.parse(await readFile(this.#record(key), 'utf8')) as Omit<
      Known,
      'holds' | 'usedAt'
    >;
    return stats.size === size ? { size, storePaths, usedAt: stats.mtimeMs, holds: 0 } : undefined;
  }

  #present(key: string): Known | undefined {
    const known = this.#known.get(key);
    if (known === undefined) return undefined;
    return statSync(this.#file(key), { throwIfNoEntry: false })?.size === known.size ? known : undefined;
  }

  #build(key: string, what: { paths: readonly ClosurePath[]; storePaths: readonly string[] }): Promise<Known> {
    const building = this.#building.get(key) ?? this.#buildNow(key, what).finally(() => this.#building.delete(key));
    this.#building.set(key, building);
    return building;
  }

  async #buildNow(
    key: string,
    { paths, storePaths }: { paths: readonly ClosurePath[]; storePaths: readonly string[] },
  ): Promise<Known> {
    const output = this.#file(key);
    const entries = paths.map(({ storePath, source }) => ({ name: basename(storePath), source }));
    await buildErofs({ output, entries });
    const { size } = statSync(output);
    await writeWhole(this.#record(key), JSON.stringify({ size, storePaths }));
    // Somebody may hold the one that is gone, and was built again.
    const { holds } = this.#known.get(key) ?? { holds: 0 };
    const known = { size, storePaths, holds, usedAt: Date.now() };
    this.#known.set(key, known);
    await this.#trim();
    return known;
  }

  #use(key: string, known: Known): WorkloadDisk {
    const file = this.#file(key);
    const now = new Date();
    known.usedAt = now.getTime();
    utimesSync(file, now, now);
    const hold = (): Disposable => {
      known.holds++;
      let isHeld = true;
      return {
        [Symbol.dispose]: () => {
          if (isHeld) known.holds--;
          isHeld = false;
        },
      };
    };
    return { file, size: known.size, hold };
  }

  async #trim(): Promise<void> {
    let total = [...this.#known.values()].reduce((sum, { size }) => sum + size, 0);
    const oldest = [...this.#known].sort(([, one], [, other]) => one.usedAt - other.usedAt);
    for (const [key, known] of oldest) {
      if (total <= this.#budget) return;
      if (!isUnused(known)) continue;
      await this.#remove(key);
      total -= known.size;
    }
  }

  async #remove(key: string): Promise<void> {
    this.#known.delete(key);
    await rm(this.#record(key), { force: true });
    await rm(this.#file(key), { force: true });
  }

  #file(key: string): string {
    return join(this.#folder, `${key}.erofs`);
  }

  #record(key: string): string {
    return join(this.#folder, `${key}.json`);
  }
}

/**
 * Makes the file of a writable disk, for one machine: empty, and without its size taken from this machine until it is
 * written to.
 *
 * @param size In bytes; a multiple of 4096 is made of it.
 */
export async function createScratch(file: string, size: number): Promise<void> {
  await using handle = await open(file, 'wx', 0o600);
  await handle.truncate(Math.ceil(size / 4096) * 4096);
}

function isUnused({ holds, usedAt }: Known): boolean {
  return holds === 0 && Date.now() - usedAt >= RECENT_MS;
}

async function writeWhole(file: string, text: string): Promise<void> {
  await writeFile(`${file}.new`, text);
  await rename(`${file}.new`, file);
}

async function readOrUndefined(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
