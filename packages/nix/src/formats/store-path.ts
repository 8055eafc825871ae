import { NixError } from '../nix-error.ts';

/** The only store directory this project deals with: store paths have it baked in. */
export const STORE_DIR = '/nix/store';

const HASH_LENGTH = 32;
const NAME_MAX = 211;

declare const storePathBrand: unique symbol;

/** A full store path, `/nix/store/<32 symbols of nixbase32>-<name>`. Only the parsers of this module make one. */
export type StorePath = string & { readonly [storePathBrand]: true };

/**
 * A store path exactly, with nothing below it.
 *
 * @throws {@link NixError} `NIX_STORE_PATH_INVALID`, which says the position and the symbol that is wrong.
 */
export function parseStorePath(text: string): StorePath {
  if (!text.startsWith(`${STORE_DIR}/`)) throw invalid(text, `it does not begin with ${STORE_DIR}/`);
  checkBaseName(text, STORE_DIR.length + 1);
  return text as StorePath;
}

/**
 * The store path that holds the file `text`, and where below it the file is (`''` for the store path itself).
 * Purely textual: nothing is looked up on disk.
 *
 * @throws {@link NixError} `NIX_STORE_PATH_INVALID`, also when a part is empty, `.` or `..`.
 */
export function splitStorePath(text: string): { storePath: StorePath; subPath: string } {
  const slash = text.indexOf('/', STORE_DIR.length + 1);
  const storePath = parseStorePath(slash === -1 ? text : text.slice(0, slash));
  const rest = slash === -1 ? '' : text.slice(slash + 1);
  const subPath = rest.endsWith('/') ? rest.slice(0, -1) : rest;
  for (const part of rest === '' ? [] : subPath.split('/')) {
    if (part === '' || part === '.' || part === '..') throw invalid(text, `"${part}" cannot be a part of it`);
    if (part.includes('\0')) throw invalid(text, 'it contains a NUL');
  }
  return { storePath, subPath };
}

/** A store path out of its last part, `<hash>-<name>`. */
export function storePathFromBaseName(base: string): StorePath {
  checkBaseName(base, 0);
  return `${STORE_DIR}/${base}` as StorePath;
}

/** `<hash>-<name>`. */
export function storePathBaseName(path: StorePath): string {
  return path.slice(STORE_DIR.length + 1);
}

/** The 32 symbols that stand for the path in file names, subjects and URLs. */
export function storePathHash(path: StorePath): string {
  return path.slice(STORE_DIR.length + 1, STORE_DIR.length + 1 + HASH_LENGTH);
}

/** The part after the hash, version included: `hello-2.12`. */
export function storePathName(path: StorePath): string {
  return path.slice(STORE_DIR.length + 1 + HASH_LENGTH + 1);
}

/** The name without its version, where Nix cuts it: before the first `-` that no letter follows. */
export function storePathPackageName(path: StorePath): string {
  const name = storePathName(path);
  const cut = /-[^A-Za-z]/.exec(name)?.index ?? name.length;
  return cut === 0 ? name : name.slice(0, cut);
}

function checkBaseName(text: string, start: number): void {
  const nameStart = start + HASH_LENGTH + 1;
  for (let at = start; at < nameStart - 1; at++) expectSymbol(text, at, /[0-9abcdfghijklmnpqrsvwxyz]/, 'nixbase32');
  expectSymbol(text, nameStart - 1, /-/, '"-"');
  const name = text.slice(nameStart);
  if (name === '') throw invalid(text, 'its name is empty');
  if (name.length > NAME_MAX)
    throw invalid(text, `its name has ${name.length} symbols, at most ${NAME_MAX} are allowed`);
  for (let at = nameStart; at < text.length; at++)
    expectSymbol(text, at, /[A-Za-z0-9+\-._?=]/, 'one of A-Z a-z 0-9 +-._?=');
  if (/^\.\.?(-|$)/.test(name)) throw invalid(text, `its name begins with "${name.split('-')[0]}"`);
}

function expectSymbol(text: string, at: number, allowed: RegExp, wanted: string): void {
  const symbol = text.charAt(at);
  if (symbol === '') throw invalid(text, `it ends at position ${at}, expected ${wanted}`);
  if (!allowed.test(symbol)) throw invalid(text, `position ${at} is ${JSON.stringify(symbol)}, expected ${wanted}`);
}

function invalid(text: string, why: string): NixError {
  return new NixError('NIX_STORE_PATH_INVALID', `Cannot parse the store path ${JSON.stringify(text)}: ${why}`, {
    hint: `A store path looks like ${STORE_DIR}/<32 symbols>-<name>`,
  });
}
