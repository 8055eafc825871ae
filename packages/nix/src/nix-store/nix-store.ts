import { resolve } from 'node:path';
import { dumpNar } from '../nar/dump-nar.ts';
import type { NarOptions } from '../nar/nar-options.ts';
import { type NixDatabaseQuery, queryNixDatabase } from './nix-database.ts';
import { lastComplaint, runNix } from './nix-command.ts';
import { NixError } from '../nix-error.ts';
import type { SignalOptions } from '../abortable.ts';
import type { PathInfo } from '../formats/path-info.ts';
import { parsePathInfoJson } from '../formats/path-info-json.ts';
import type { PathSource } from '../closure/path-source.ts';
import type { StorePath } from '../formats/store-path.ts';

/**
 * What tells a {@link NixStore} of its paths: Nix's SQLite database, or `nix path-info --json`. Both tell the same, except that the
 * command of a Nix before 2.15 takes a `.drv` path for its outputs.
 */
export type NixStoreReader = 'database' | 'command';

/** Which store of Nix, and how it is asked. */
export interface NixStoreOptions {
  /** @default the database, and the command where that cannot be read */
  reader?: NixStoreReader | undefined;
  /** The `nix` executable; found on PATH by default. */
  command?: string;
  /** Root of a chroot store, as in `--store local?root=…`; the machine's own store by default. */
  root?: string;
  /** Environment of `nix`, that of this process by default; `NIX_STATE_DIR` says where the database of the machine's own store is. */
  env?: NodeJS.ProcessEnv;
}

/**
 * A store that Nix keeps on this machine. Its database is read, which is quick and needs no Nix, or the `nix` command is asked; NARs are
 * read from disk.
 */
export class NixStore implements PathSource {
  readonly name: string;
  readonly #command: string | undefined;
  readonly #env: NodeJS.ProcessEnv | undefined;
  readonly #root: string;
  readonly #stateDir: string;
  readonly #reader: NixStoreReader | undefined;

  constructor(options: NixStoreOptions = {}) {
    this.#command = options.command;
    this.#env = options.env;
    this.#root = options.root === undefined ? '' : resolve(options.root);
    const ownState = (options.env ?? process.env)['NIX_STATE_DIR'] || '/nix/var/nix';
    this.#stateDir = this.#root === '' ? ownState : `${this.#root}/nix/var/nix`;
    this.#reader = options.reader;
    this.name = this.#root === '' ? 'the Nix store' : `the Nix store in ${this.#root}`;
  }

  /** Where the content of a path is on disk. */
  realPath(path: StorePath): string {
    return `${this.#root}${path}`;
  }

  /** @throws {@link NixError} `NIX_DATABASE_UNUSABLE`, `NIX_COMMAND_MISSING`, `NIX_COMMAND_FAILED`, by reader. */
  async pathInfo(path: StorePath, { signal }: SignalOptions = {}): Promise<PathInfo | undefined> {
    const infos = await this.#askDatabase([path], { recursive: false, signal });
    return infos === undefined ? this.#pathInfoByNix(path, { signal }) : infos[0];
  }

  /**
   * The closure of `roots`, in any order.
   *
   * @throws {@link NixError} `NIX_PATH_NOT_FOUND` when one of the roots is not valid; `NIX_DATABASE_UNUSABLE`, `NIX_COMMAND_MISSING`,
   *   `NIX_COMMAND_FAILED`, by reader.
   */
  async closure(roots: readonly StorePath[], { signal }: SignalOptions = {}): Promise<PathInfo[]> {
    if (roots.length === 0) return [];
    const infos = await this.#askDatabase(roots, { recursive: true, signal });
    if (infos === undefined) return this.#closureByNix(roots, { signal });
    const valid = new Set(infos.map((info) => info.storePath));
    const absent = roots.find((root) => !valid.has(root));
    if (absent !== undefined) throw this.#notFound(absent);
    return infos;
  }

  async #pathInfoByNix(path: StorePath, options: SignalOptions): Promise<PathInfo | undefined> {
    const infos = await this.#askNix([path], [], options);
    return infos?.find((info) => info.storePath === path);
  }

  async #closureByNix(roots: readonly StorePath[], options: SignalOptions): Promise<PathInfo[]> {
    const infos = await this.#askNix(roots, ['--recursive'], options);
    if (infos !== undefined) return infos;
    for (const root of roots) {
      if ((await this.#pathInfoByNix(root, options)) === undefined) throw this.#notFound(root);
    }
    throw new NixError(
      'NIX_COMMAND_FAILED',
      `Cannot read the closure of "${roots.join(' ')}": "nix path-info" finds a part of it not valid`,
    );
  }

  nar(info: PathInfo, options: NarOptions = {}): AsyncIterable<Uint8Array> {
    return dumpNar(this.realPath(info.storePath), options);
  }

  /** Undefined when the command is to be asked. */
  async #askDatabase(paths: readonly StorePath[], query: NixDatabaseQuery): Promise<PathInfo[] | undefined> {
    if (this.#reader === 'command') return undefined;
    try {
      return await queryNixDatabase(this.#stateDir, paths, query);
    } catch (error) {
      const isUnusable = error instanceof NixError && error.code === 'NIX_DATABASE_UNUSABLE';
      if (isUnusable && this.#reader === undefined) return undefined;
      throw error;
    }
  }

  /** Undefined when Nix says that a path is not valid. */
  async #askNix(
    paths: readonly StorePath[],
    flags: readonly string[],
    { signal }: SignalOptions,
  ): Promise<PathInfo[] | undefined> {
    const store = this.#root === '' ? [] : ['--store', `local?root=${this.#root}`];
    // Offline: what is in the store is asked, not what could be substituted.
    const output = await runNix(['--offline', ...store, 'path-info', '--json', ...flags, ...paths], {
      command: this.#command,
      env: this.#env,
      signal,
    });
    if (output.code === 0) return parsePathInfoJson(output.stdout);
    const complaint = lastComplaint(output);
    if (/is not valid|does not exist|not in the Nix store/.test(complaint)) return undefined;
    throw new NixError('NIX_COMMAND_FAILED', `Cannot ask ${this.name} for "${paths.join(' ')}": ${complaint}`);
  }

  #notFound(path: StorePath): NixError {
    return new NixError('NIX_PATH_NOT_FOUND', `Cannot find "${path}": it is not in ${this.name}`, {
      hint: `Build or fetch it with: nix-store --realise ${path}`,
    });
  }
}
