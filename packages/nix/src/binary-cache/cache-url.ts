import { NixError } from '../nix-error.ts';
import type { Login } from './netrc.ts';

/** What the URL of a binary cache says. */
export interface CacheUrl {
  /** Without user name, password and settings; ends in `/`. */
  readonly base: URL;
  readonly login: Login | undefined;
  readonly settings: CacheSettings;
}

/** The settings of Nix's store URLs that mean something here, by their meaning there. */
interface CacheSettings {
  readonly compression: string | undefined;
  readonly compressionLevel: number | undefined;
  readonly priority: number | undefined;
  readonly wantMassQuery: boolean | undefined;
  /** Names of files with secret keys. */
  readonly secretKeyFiles: readonly string[];
  readonly writeNarListing: boolean | undefined;
}

/**
 * Takes the URL of a binary cache apart. Settings that mean nothing here are ignored.
 *
 * @throws {@link NixError} `NIX_CACHE_URL_INVALID`; the message shows no password.
 */
export function parseCacheUrl(text: string): CacheUrl {
  const url = URL.parse(text);
  if (url === null || !['file:', 'http:', 'https:'].includes(url.protocol))
    throw urlError(text, 'it is not a file://, http:// or https:// URL');
  const base = new URL(url);
  base.search = '';
  base.hash = '';
  if (base.protocol !== 'file:') {
    base.username = '';
    base.password = '';
  }
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  return { base, login: loginOf(url, text), settings: settingsOf(url, text) };
}

function settingsOf({ searchParams }: URL, text: string): CacheSettings {
  const read = <T>(name: string, parse: (value: string) => T | undefined, wanted: string): T | undefined => {
    const value = searchParams.get(name);
    if (value === null) return undefined;
    const parsed = parse(value);
    if (parsed === undefined) throw urlError(text, `its setting "${name}" is not ${wanted}`);
    return parsed;
  };
  const integer = (value: string) => (/^-?\d{1,9}$/.test(value) ? Number(value) : undefined);
  const flag = (value: string) => ({ true: true, 1: true, false: false, 0: false })[value];
  // "-1" is Nix's word for "the usual level".
  const level = read('compression-level', integer, 'a number');
  return {
    compression: searchParams.get('compression') ?? undefined,
    compressionLevel: level === -1 ? undefined : level,
    priority: read('priority', integer, 'a number'),
    wantMassQuery: read('want-mass-query', flag, 'true or false'),
    secretKeyFiles: [
      searchParams.get('secret-key') ?? '',
      ...(searchParams.get('secret-keys') ?? '').split(','),
    ].filter((file) => file !== ''),
    writeNarListing: read('write-nar-listing', flag, 'true or false'),
  };
}

function loginOf({ protocol, username, password }: URL, text: string): Login | undefined {
  if (protocol === 'file:' || (username === '' && password === '')) return undefined;
  try {
    return { login: decodeURIComponent(username), password: decodeURIComponent(password) };
  } catch (error) {
    if (!(error instanceof URIError)) throw error;
    throw urlError(text, 'its user name or password has a malformed % sequence');
  }
}

function urlError(text: string, why: string): NixError {
  const withoutSecrets = text.replace(/\/\/[^/?#]*@/, '//…@').replace(/\?.*$/s, '?…');
  return new NixError('NIX_CACHE_URL_INVALID', `Cannot open the binary cache "${withoutSecrets}": ${why}`);
}
