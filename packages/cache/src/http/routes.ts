import { NixError, storePathFromBaseName, type StorePath } from '@nex-nix/nix';
import { isHashPart } from '../protocol/protocol.ts';

/** How the file of a NAR is compressed, as narinfos call it. */
export type Compression = (typeof KINDS)[number];

const KINDS = ['none', 'zstd', 'xz', 'bzip2', 'br', 'gzip'] as const;

/** Whether a NAR may be compressed so. */
export function isCompression(name: string): name is Compression {
  return (KINDS as readonly string[]).includes(name);
}

/** The file of a NAR, as its URL names it. */
export interface NarFile {
  /** Its last part: `<hash>.nar.xz`. */
  readonly name: string;
  /** 52 symbols of nixbase32: the hash of the file, or of the NAR in it. */
  readonly hash: string;
  /** By the end of the name; undefined when that is of no known kind. What is called `.nar` may be compressed by gzip. */
  readonly compression: Compression | undefined;
}

/** What a URL names. */
export type Route =
  | { readonly kind: 'cache-info' }
  | { readonly kind: 'narinfo'; readonly hashPart: string }
  | { readonly kind: 'listing'; readonly hashPart: string }
  | { readonly kind: 'nar'; readonly file: NarFile }
  | { readonly kind: 'log'; readonly derivation: StorePath };

const COMPRESSIONS: Readonly<Record<string, Compression>> = {
  '': 'none',
  '.zst': 'zstd',
  '.xz': 'xz',
  '.bz2': 'bzip2',
  '.br': 'br',
  '.gz': 'gzip',
};

const NAR_FILE = /^nar\/(([01][0-9a-df-np-sv-z]{51})\.nar(\.[a-z0-9]{1,8})?)$/;

/** What the path of a URL names, in the layout of Nix's binary caches; undefined when that is nothing. */
export function routeOf(pathname: string): Route | undefined {
  const path = pathname.slice(1);
  if (path === 'nix-cache-info') return { kind: 'cache-info' };
  const [, name, hash, suffix = ''] = NAR_FILE.exec(path) ?? [];
  if (name !== undefined && hash !== undefined) {
    return { kind: 'nar', file: { name, hash, compression: COMPRESSIONS[suffix] } };
  }
  const hashPart = path.slice(0, 32);
  if (isHashPart(hashPart)) {
    if (path.slice(32) === '.narinfo') return { kind: 'narinfo', hashPart };
    if (path.slice(32) === '.ls') return { kind: 'listing', hashPart };
  }
  const derivation = path.startsWith('log/') ? derivationOf(path.slice('log/'.length)) : undefined;
  return derivation === undefined ? undefined : { kind: 'log', derivation };
}

/** The end of a URL of a NAR that is so compressed. */
export function narFileName(hash: string, compression: 'none' | 'zstd'): string {
  return `${hash}.nar${compression === 'zstd' ? '.zst' : ''}`;
}

/** The file that a narinfo names, when it is one of this cache. */
export function narFileOf(url: string): NarFile | undefined {
  const route = routeOf(`/${url}`);
  return route?.kind === 'nar' ? route.file : undefined;
}

function derivationOf(text: string): StorePath | undefined {
  try {
    return storePathFromBaseName(decodeURIComponent(text));
  } catch (error) {
    if (error instanceof NixError || error instanceof URIError) return undefined;
    throw error;
  }
}
