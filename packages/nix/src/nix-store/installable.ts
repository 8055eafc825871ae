import { lstat, realpath, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { type PathSource } from '../closure/path-source.ts';
import { publish } from '../closure/publish.ts';
import { lastComplaint, runNix } from './nix-command.ts';
import { NixStore } from './nix-store.ts';
import { NixError, systemErrorCode } from '../nix-error.ts';
import type { SignalOptions } from '../abortable.ts';
import { splitStorePath, STORE_DIR, type StorePath, storePathPackageName } from '../formats/store-path.ts';

/** Options of {@link resolveInstallable}. */
export interface ResolveInstallableOptions extends SignalOptions {
  /** What relative paths and flake references start from; the working directory of this process by default. */
  cwd?: string;
  /** The `nix` executable; found on PATH by default. Only flake references need it. */
  nixCommand?: string;
  /** Receives what `nix build` says, line by line. */
  onLog?: (line: string) => void;
}

/** A store path that can be had on this machine. */
export interface ResolvedInstallable {
  readonly storePath: StorePath;
  /** The file below the store path that was named, or `''`. */
  readonly subPath: string;
  /** What to call it: the attribute of a flake, the file, or the name of the store path without version. */
  readonly name: string;
  /** Where the closure is to be had. */
  readonly source: PathSource;
  /** What the store path was made of when it was made here, and not by Nix: the absolute path of a file or folder. */
  readonly published?: string;
}

/**
 * Turns what a user names to run into a store path whose closure is to be had on this machine:
 *
 * - a store path, or a file below one;
 * - a path that leads into the store, like `./result`;
 * - a flake reference (`.`, `.#x`, `nixpkgs#hello`, `path:…`), built with the user's own `nix build`.
 *   Of several outputs the first with a `bin` folder is taken;
 * - any other executable file or folder, published without Nix (see {@link publish}): a file becomes `bin/<its name>`, a folder
 *   is taken as it is.
 *
 * @throws {@link NixError} `NIX_INSTALLABLE_INVALID` for anything else, `NIX_PATH_NOT_FOUND`, `NIX_COMMAND_MISSING`,
 *   `NIX_BUILD_FAILED`, and what {@link publish} throws.
 */
export async function resolveInstallable(
  text: string,
  options: ResolveInstallableOptions = {},
): Promise<ResolvedInstallable> {
  options.signal?.throwIfAborted();
  const cwd = resolve(options.cwd ?? '.');
  if (text === '' || text.startsWith('-')) throw invalid(text, 'it is no name of anything');
  const source = new NixStore(options.nixCommand === undefined ? {} : { command: options.nixCommand });
  if (text.startsWith(`${STORE_DIR}/`)) return { ...(await existing(text)), source };
  if (isFlakeReference(text)) return { ...(await buildFlake(text, cwd, options)), source };
  const path = resolve(cwd, text);
  const real = await realPathOf(path);
  if (real === undefined) throw invalid(text, 'there is no such file');
  if (real.startsWith(`${STORE_DIR}/`)) return { ...(await existing(real)), source };
  if (await isFile(join(real, 'flake.nix'))) return { ...(await buildFlake(real, cwd, options)), source };
  return publishPlain(real, options);
}

async function publishPlain(published: string, { signal }: SignalOptions): Promise<ResolvedInstallable> {
  const isFolder = (await stat(published)).isDirectory();
  const source = await publish(published, { as: isFolder ? 'tree' : 'program', signal });
  const { storePath } = source.info;
  const file = basename(published);
  return isFolder
    ? { storePath, subPath: '', name: storePathPackageName(storePath), source, published }
    : { storePath, subPath: `bin/${file}`, name: file, source, published };
}

/** Where a store of Nix has it. */
type Located = Omit<ResolvedInstallable, 'source'>;

function isFlakeReference(text: string): boolean {
  return text === '.' || text.includes('#') || /^[a-z][a-z0-9+.-]*:/.test(text);
}

async function existing(text: string): Promise<Located> {
  const { storePath, subPath } = splitStorePath(text);
  try {
    await lstat(text);
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT' && systemErrorCode(error) !== 'ENOTDIR') throw error;
    throw new NixError('NIX_PATH_NOT_FOUND', `Cannot find "${text}": it is not on this machine`, {
      hint:
        (await realPathOf(storePath)) === undefined
          ? `Build or fetch it with: nix-store --realise ${storePath}`
          : `See what is there: ls ${storePath}`,
      cause: error,
    });
  }
  return { storePath, subPath, name: subPath === '' ? storePathPackageName(storePath) : basename(subPath) };
}

async function buildFlake(reference: string, cwd: string, options: ResolveInstallableOptions): Promise<Located> {
  const { nixCommand: command, signal, onLog } = options;
  const output = await runNix(['build', '--no-link', '--json', '--print-build-logs', reference], {
    command,
    cwd,
    signal,
    onLog,
  });
  const failed = (why: string, cause?: unknown) =>
    new NixError('NIX_BUILD_FAILED', `Cannot build "${reference}": ${why}`, {
      hint: `See the whole log: nix --extra-experimental-features 'nix-command flakes' build --no-link --print-build-logs '${reference}'`,
      cause,
    });
  if (output.code !== 0) throw failed(lastComplaint(output));
  const paths = readOutPaths(output.stdout, failed);
  const first = paths[0];
  if (first === undefined) throw failed('nix build names no store path');
  const withPrograms = await findAsync(paths, (path) => exists(join(path, 'bin')));
  const { storePath, subPath } = splitStorePath(withPrograms ?? first);
  const attribute = /#(?:.*\.)?([^.^"]+)(?:\^.*)?$/.exec(reference)?.[1];
  return {
    storePath,
    subPath,
    name: attribute === undefined || attribute === 'default' ? storePathPackageName(storePath) : attribute,
  };
}

/** Output paths in what `nix build --json` prints: a list of derivations with outputs, or of plain paths. */
function readOutPaths(json: string, failed: (why: string, cause?: unknown) => NixError): string[] {
  try {
    const built = JSON.parse(json) as (string | { path?: string; outputs?: Record<string, string> })[];
    return built.flatMap((item) => {
      if (typeof item === 'string') return [item];
      return item.outputs === undefined ? (item.path ?? []) : Object.values(item.outputs);
    });
  } catch (error) {
    throw failed('nix build prints something unreadable', error);
  }
}

async function findAsync<T>(items: readonly T[], test: (item: T) => Promise<boolean>): Promise<T | undefined> {
  for (const item of items) {
    if (await test(item)) return item;
  }
  return undefined;
}

async function realPathOf(path: string): Promise<string | undefined> {
  try {
    return await realpath(path);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT' || systemErrorCode(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  return (await realPathOf(path)) !== undefined;
}

async function isFile(path: string): Promise<boolean> {
  return (await exists(path)) && (await stat(path)).isFile();
}

function invalid(text: string, why: string): NixError {
  return new NixError('NIX_INSTALLABLE_INVALID', `Cannot run "${text}": ${why}`, {
    hint: `Name a store path (${STORE_DIR}/…), a link to one (./result), a flake reference (.#name, nixpkgs#hello), or an executable file (./server)`,
  });
}
