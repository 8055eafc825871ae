import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../file-errors.ts';
import { ensureFirewall } from './firewall.ts';

/** What one state folder's sandboxes are to reach of this machine. */
export interface Opening {
  bridge: string;
  ports: readonly number[];
  nameservers: readonly string[];
}

/**
 * What the sandboxes at the bridges of this machine may reach of it. One file a state folder: several runtimes can share a
 * bridge, and its rules are made for all of them at once.
 */
export class Openings {
  readonly #folder: string;
  readonly #owner: string;

  constructor(runDir: string, owner: string) {
    this.#folder = join(runDir, 'openings');
    this.#owner = owner;
  }

  /** Replaces our own, and makes the rules of the bridge accordingly. `gateway`: this machine's address there. */
  async apply(opening: Opening, gateway: string): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const draft = join(this.#folder, `.${this.#owner}`);
    await writeFile(draft, JSON.stringify(opening), { mode: 0o600 });
    await rename(draft, join(this.#folder, this.#owner));
    const all = (await this.#all()).filter(({ bridge }) => bridge === opening.bridge);
    await ensureFirewall({
      bridge: opening.bridge,
      gateway,
      ports: [...new Set(all.flatMap(({ ports }) => ports))].toSorted((a, b) => a - b),
      nameservers: [...new Set(all.flatMap(({ nameservers }) => nameservers))].toSorted(),
    });
  }

  /** Forgets our own; the rules stay. */
  async forget(): Promise<void> {
    await rm(join(this.#folder, this.#owner), { force: true });
  }

  async #all(): Promise<Opening[]> {
    const names = (await readdir(this.#folder)).filter((name) => !name.startsWith('.'));
    const all = await Promise.all(names.map((name) => readOpening(join(this.#folder, name))));
    return all.filter((opening) => opening !== undefined);
  }
}

/** Undefined when it was removed meanwhile. */
async function readOpening(file: string): Promise<Opening | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Opening;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
