import { lstat, readFile, readlink, realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { GuestError } from '../guest-error.ts';
import { elfInterpreter } from './elf.ts';
import { runTool } from './tools.ts';
import type { TreeEntry } from './tree-entry.ts';

/** Folders that are links into /usr on most machines; an image has the same links. */
const MERGED = ['bin', 'sbin', 'lib', 'lib64'];

/** Folders that a guest mounts something over when it starts. */
const COVERED = ['dev', 'proc', 'run', 'sys', 'tmp'];

/**
 * Programs of this machine with their loader and libraries, at the same paths in an image: a library may be looked for
 * relative to the program, and the loader has its folders built in.
 */
export class Programs {
  readonly #entries = new Map<string, TreeEntry>();

  /**
   * Adds a program; gives its absolute path in the image. `at`: that path, for one that does not look around itself, so that
   * it does not matter where this machine has it.
   */
  async add(
    program: string,
    { at, signal }: { at?: string | undefined; signal?: AbortSignal | undefined } = {},
  ): Promise<string> {
    const path = await this.#place(program, at);
    const loader = elfInterpreter(await readFile(program, { signal }));
    if (loader === undefined) return path;
    await this.#place(loader);
    const purpose = `find the libraries of "${program}"`;
    const said = await runTool(purpose, [loader, '--list', program], { signal });
    for (const line of said.toString().trim().split('\n')) {
      // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)"; what has no arrow is the loader, or the kernel's own.
      const library = /=> (?<file>\/.+) \(0x[0-9a-f]+\)$/.exec(line)?.groups?.['file'];
      if (library !== undefined) await this.#place(library);
      else if (line.includes('not found')) {
        throw new GuestError('GUEST_BUILD_FAILED', `Cannot ${purpose}: ${line.trim()}`);
      }
    }
    return path;
  }

  /** All that was added. */
  entries(): TreeEntry[] {
    return [...this.#entries.values()];
  }

  /** The links to folders in /usr that this machine has. */
  static async mergedFolders(): Promise<TreeEntry[]> {
    const entries: TreeEntry[] = [];
    for (const name of MERGED) {
      const path = `/${name}`;
      const stats = await lstat(path).catch(() => undefined);
      if (stats?.isSymbolicLink() === true) entries.push({ name, target: await readlink(path) });
    }
    return entries;
  }

  /** Puts a file where it is looked for, whatever links lead to it. */
  async #place(file: string, at?: string): Promise<string> {
    const path = at ?? join(await realpath(dirname(file)), basename(file));
    if (at === undefined && COVERED.some((folder) => path.startsWith(`/${folder}/`))) {
      throw new GuestError('GUEST_BUILD_FAILED', `Cannot put "${path}" into a guest: it has something else there`, {
        hint: 'Install it in another folder, such as /usr/local',
      });
    }
    const name = path.slice(1);
    if (!this.#entries.has(name)) this.#entries.set(name, { name, source: await realpath(file) });
    return path;
  }
}
