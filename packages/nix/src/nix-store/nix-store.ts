import { resolve } from 'node:path';
import { dumpNar } from '../nar/dump-nar.ts';
import { lastComplaint, runNix } from './nix-command.ts';
import { NixError } from '../nix-error.ts';
import type { SignalOptions } from '../abortable.ts';
import type { PathInfo } from '../formats/path-info.ts';
import { parsePathInfoJson } from '../formats/path-info-json.ts';
import type { PathSource } from '../closure/path-source.ts';
import type { StorePath } from '../formats/store-path.ts';

export interface NixStoreOptions {
  /** The `nix` executable; found on PATH by default. */
  command?: string;
  /** Root of a chroot store, as in `--store local?root=…`; the machine's own store by default. */
  root?: string;
  /** Environment of `nix`; that of this process by default. */
  env?: NodeJS.ProcessEnv;
}

/** A store that Nix keeps, asked through the `nix` command; the NARs are read from disk without it. */
export class NixStore implements PathSource {
  readonly name: string;
  readonly #command: string | undefined;
  readonly #env: NodeJS.ProcessEnv | undefined;
  readonly #root: string;

  constructor(options: NixStoreOptions = {}) {
    this.#command = options.command;
    this.#env = options.env;
    this.#root = options.root === undefined ? '' : resolve(options.root);
    this.name = this.#root === '' ? 'the Nix store' : `the Nix store in ${this.#root}`;
  }

  /** Where the content of a path is on disk. */
  realPath(path: StorePath): string {
    return `${this.#root}${path}`;
  }

  async pathInfo(path: StorePath, options: SignalOptions = {}): Promise<PathInfo | undefined> {
    const infos = await this.#pathInfos([path], [], options);
    return infos?.find((info) => info.storePath === path);
  }

  /** @throws {@link NixError} `NIX_PATH_NOT_FOUND` when one of the roots is not valid, `NIX_COMMAND_MISSING`, `NIX_COMMAND_FAILED`. */
  async closure(roots: readonly StorePath[], options: SignalOptions = {}): Promise<PathInfo[]> {
    if (roots.length === 0) return [];
    const infos = await this.#pathInfos(roots, ['--recursive'], options);
    if (infos !== undefined) return infos;
    for (const root of roots) {
      if ((await this.pathInfo(root, options)) === undefined) throw this.#notFound(root);
    }
    throw new NixError(
      'NIX_COMMAND_FAILED',
      `Cannot read the closure of "${roots.join(' ')}": "nix path-info" finds a part of it not valid`,
    );
  }

  nar(info: PathInfo, options: SignalOptions = {}): AsyncIterable<Uint8Array> {
    return dumpNar(this.realPath(info.storePath), options);
  }

  /** Undefined when Nix says that a path is not valid. */
  async #pathInfos(
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
