import { readFile } from 'node:fs/promises';
import { type Login, netrcLogin } from './netrc.ts';
import { NixError, systemErrorCode } from '../nix-error.ts';

/** Who to be for a cache. A token counts before user name and password in its URL, those before a netrc file. */
export interface AuthorizationOptions {
  /**
   * File with user names and passwords by host, in the form of netrc(5). It must be there when it is named.
   *
   * @default Nix's own, `/etc/nix/netrc`, where it can be read
   */
  netrcFile?: string | undefined;
  /** Token sent as `Authorization: Bearer …`, or what gives one, asked before each request. Goes before any password. */
  bearerToken?: string | (() => string | Promise<string>) | undefined;
}

/** The `Authorization` header by URL: only the origin of `base` gets one. */
export function authorizationFor(
  base: URL,
  login: Login | undefined,
  { netrcFile, bearerToken }: AuthorizationOptions,
): (url: URL) => Promise<string | undefined> {
  let fromFile: Promise<Login | undefined> | undefined;
  return async (url) => {
    if (url.origin !== base.origin) return undefined;
    if (bearerToken !== undefined) return bearer(typeof bearerToken === 'string' ? bearerToken : await bearerToken());
    return basic(login ?? (await (fromFile ??= readNetrc(base.hostname, netrcFile))));
  };
}

function bearer(token: string): string {
  if (/^[\x21-\x7e]+$/.test(token)) return `Bearer ${token}`;
  throw new NixError(
    'NIX_CACHE_REFUSED',
    'Cannot send the bearer token: it is empty or has a symbol that no token has',
  );
}

function basic(login: Login | undefined): string | undefined {
  if (login === undefined) return undefined;
  return `Basic ${Buffer.from(`${login.login}:${login.password}`).toString('base64')}`;
}

async function readNetrc(host: string, file: string | undefined): Promise<Login | undefined> {
  const path = file ?? '/etc/nix/netrc';
  try {
    return netrcLogin(await readFile(path, 'utf8'), host, path);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === undefined || error instanceof NixError) throw error;
    // Nix's own file is readable for root only on many machines.
    if (file === undefined && (code === 'ENOENT' || code === 'EACCES' || code === 'ENOTDIR')) return undefined;
    throw new NixError('NIX_NETRC_INVALID', `Cannot read the netrc file "${path}": ${String(error)}`, { cause: error });
  }
}
