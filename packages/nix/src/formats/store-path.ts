import { NixError } from '../nix-error.ts';
import { quoteText } from './quote-text.ts';

/** The only store directory this project deals with: store paths have it baked in. */
export const STORE_DIR = '/nix/store';

const HASH_LENGTH = 32;
const NAME_MAX = 211;
const BASE_NAME = /^[0-9a-df-np-sv-z]{32}-(?!\.\.?(?:-|$))[A-Za-z0-9+\-._?=]{1,211}$/;

declare const storePathBrand: unique symbol;

/** A full store path, `/nix/store/<32 symbols of nixbase32>-<name>`. Only the parsers of this module make one. */
export type StorePath = string & { readonly [storePathBrand]: true };

/**
 * A store path exactly, with nothing below it.
 *
 * @throws {@link NixError} `NIX_STORE_PATH_INVALID`, which says the position and the symbol that is wrong.
 */
export function parseStorePath(text: string): StorePath {
  const start = STORE_DIR.length + 1;
  if (!text.startsWith(`${STORE_DIR}/`)) {
    let same = 0;
    while (text.charAt(same) === `${STORE_DIR}/`.charAt(same)) same++;
    throw invalid(text, `it does not begin with ${STORE_DIR}/`, same);
  }
  if (!BASE_NAME.test(text.slice(start))) throw baseNameFault(text, start);
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
  let at = slash + 1;
  for (const part of rest === '' ? [] : subPath.split('/')) {
    if (part === '' || part === '.' || part === '..') throw invalid(text, `"${part}" cannot be a part of it`, at);
    if (part.includes('\0')) throw invalid(text, 'it contains a NUL', at + part.indexOf('\0'));
    at += part.length + 1;
  }
  return { storePath, subPath };
}

/**
 * A store path out of its last part, `<hash>-<name>`.
 *
 * @throws {@link NixError} `NIX_STORE_PATH_INVALID`; positions count from the start of `base`.
 */
export function storePathFromBaseName(base: string): StorePath {
  if (!BASE_NAME.test(base)) throw baseNameFault(base, 0);
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

/** What is wrong with the base name that begins at `start` of `text`. */
function baseNameFault(text: string, start: number): NixError {
  const nameStart = start + HASH_LENGTH + 1;
  const nameEnd = nameStart + NAME_MAX;
  for (let at = start; at < nameStart || at < Math.min(text.length, nameEnd); at++) {
    const { allowed, wanted } = symbolsAt(at - start);
    const symbol = text.charAt(at);
    if (symbol === '') return invalid(text, `it ends at position ${at}, expected ${wanted}`, at);
    if (!allowed.test(symbol)) {
      return invalid(text, `position ${at} is ${JSON.stringify(symbol)}, expected ${wanted}`, at);
    }
  }
  const name = text.slice(nameStart);
  if (name === '') return invalid(text, 'its name is empty', nameStart);
  if (name.length > NAME_MAX) {
    return invalid(text, `its name has ${name.length} symbols, at most ${NAME_MAX} are allowed`, nameEnd);
  }
  return invalid(text, `its name begins with "${name.split('-')[0]}"`, nameStart);
}

function symbolsAt(position: number): { allowed: RegExp; wanted: string } {
  if (position < HASH_LENGTH) return { allowed: /[0-9a-df-np-sv-z]/, wanted: 'nixbase32' };
  if (position === HASH_LENGTH) return { allowed: /-/, wanted: '"-"' };
  return { allowed: /[A-Za-z0-9+\-._?=]/, wanted: 'one of A-Z a-z 0-9 +-._?=' };
}

function invalid(text: string, why: string, offset: number): NixError {
  return new NixError('NIX_STORE_PATH_INVALID', `Cannot parse the store path ${quoteText(text)}: ${why}`, {
    offset,
    hint: `A store path looks like ${STORE_DIR}/<32 symbols>-<name>`,
  });
}
