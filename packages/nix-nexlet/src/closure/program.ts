import { accessSync, constants, lstatSync, readlinkSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { splitStorePath, type StorePath, storePathName } from '@nex-nix/nix';
import { interpreterOf } from './interpreter.ts';
import { NixNexletError } from '../nix-nexlet-error.ts';

/** Where store paths lie on this machine. */
export interface StoreView {
  realPath(path: StorePath): string;
}

export interface ProgramQuery {
  readonly storePath: StorePath;
  /** Relative to the store path; undefined = choose from `bin/`. */
  readonly program: string | undefined;
  /** Everything the workload will see; links may lead here and nowhere else. */
  readonly closure: readonly StorePath[];
}

/** Links followed before a program counts as not found; the kernel's own bound. */
const MAX_LINKS = 40;

/**
 * The absolute path, inside the sandbox, of the program to run.
 * Without a name: the only executable in `bin/`, else `bin/<name of the path without its version>`.
 * Throws NIX_NEXLET_PROGRAM_NOT_FOUND naming the store path and what is there, NIX_NEXLET_INTERPRETER_MISSING when the program
 * cannot start because its dynamic loader or the interpreter of its script is not in the closure.
 */
export async function findProgram(store: StoreView, query: ProgramQuery): Promise<string> {
  const program = query.program ?? (await chooseProgram(store, query));
  const inside = posix.join(query.storePath, program);
  const outside = follow(store, inside, query.closure);
  if (outside === undefined || !isExecutable(outside)) {
    const names = await programsOf(store, query);
    throw notFound(query, `"${program}" is not an executable file in it`, names);
  }
  const interpreter = interpreterOf(outside);
  if (interpreter !== undefined && follow(store, interpreter, query.closure) === undefined) {
    throw interpreterMissing(`"${program}" of "${query.storePath}"`, interpreter);
  }
  return inside;
}

/** Throws NIX_NEXLET_INTERPRETER_MISSING unless `file`, which is to be a store path by itself, starts without any other file. */
export async function requireStandalone(file: string): Promise<void> {
  const interpreter = interpreterOf(file);
  if (interpreter !== undefined) throw interpreterMissing(`"${file}"`, interpreter);
}

async function chooseProgram(store: StoreView, query: ProgramQuery): Promise<string> {
  const names = await programsOf(store, query);
  if (names.length === 1) return `bin/${names[0]}`;
  const main = nameWithoutVersion(query.storePath);
  if (names.includes(main)) return `bin/${main}`;
  if (names.length === 0) throw notFound(query, 'it has no executable file in bin/', names);
  throw notFound(query, `it has several programs and none is called "${main}"`, names);
}

/** `echo-service-1.0.0` → `echo-service`: the version begins at the first dash followed by a digit, as Nix counts it. */
function nameWithoutVersion(path: StorePath): string {
  return storePathName(path).replace(/-[0-9].*$/, '');
}

async function programsOf(store: StoreView, { storePath, closure }: ProgramQuery): Promise<string[]> {
  const folder = follow(store, posix.join(storePath, 'bin'), closure);
  if (folder === undefined || !lstatSync(folder).isDirectory()) return [];
  const names: string[] = [];
  for (const name of await readdir(folder)) {
    const file = follow(store, posix.join(storePath, 'bin', name), closure);
    if (file !== undefined && isExecutable(file)) names.push(name);
  }
  return names.sort();
}

function isExecutable(file: string): boolean {
  if (!lstatSync(file).isFile()) return false;
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Resolves a path as the workload would see it, link by link, and returns where it lies on this machine;
 * undefined when it does not exist or leads out of the closure. Synchronous: it is part of every start, and a dozen looks
 * take less time than one turn each in the thread pool.
 */
function follow(store: StoreView, inside: string, closure: readonly StorePath[]): string | undefined {
  let links = 0;
  let pending = inside;
  outer: for (;;) {
    if (!pending.startsWith('/nix/store/')) return undefined;
    const { storePath, subPath } = splitStorePath(pending);
    if (!closure.includes(storePath)) return undefined;
    let walked: string = storePath;
    const parts = subPath === '' ? [] : subPath.split('/');
    for (let index = -1; index < parts.length; index++) {
      const part = parts[index];
      if (part !== undefined) walked = posix.join(walked, part);
      const real = join(store.realPath(storePath), walked.slice(storePath.length));
      const stat = lstatOrUndefined(real);
      if (stat === undefined) return undefined;
      if (stat.isSymbolicLink()) {
        if (++links > MAX_LINKS) return undefined;
        pending = posix.join(posix.resolve(posix.dirname(walked), readlinkSync(real)), ...parts.slice(index + 1));
        continue outer;
      }
    }
    return join(store.realPath(storePath), subPath);
  }
}

function lstatOrUndefined(path: string) {
  try {
    return lstatSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}

function notFound(query: ProgramQuery, what: string, names: readonly string[]): NixNexletError {
  return new NixNexletError('NIX_NEXLET_PROGRAM_NOT_FOUND', `Cannot run "${query.storePath}": ${what}`, {
    hint:
      names.length === 0
        ? 'Name a store path that holds a program'
        : `Name one of its programs: ${names.map((name) => `bin/${name}`).join(', ')}`,
  });
}

function interpreterMissing(what: string, interpreter: string): NixNexletError {
  return new NixNexletError(
    'NIX_NEXLET_INTERPRETER_MISSING',
    `Cannot run ${what}: it needs "${interpreter}", which is not in its closure`,
    {
      hint: 'Build it with Nix, which brings along what a program needs, or statically (Go: CGO_ENABLED=0, C: -static)',
    },
  );
}
