import { symlinkSync } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../file-errors.ts';
import type { ClosurePath } from '../sandbox.ts';

/** Store paths of nixpkgs that hold the certificates of authorities: `cacert`, and its newer name `nss-cacert`. */
const NAME = /^\/nix\/store\/[^/-]+-(?:nss-)?cacert(?:-|$)/;

const BUNDLE = 'etc/ssl/certs/ca-bundle.crt';

/** Where Debian's, NixOS' and most other programs look for them, below the root. */
const LINKS = ['etc/ssl/certs/ca-bundle.crt', 'etc/ssl/certs/ca-certificates.crt'];

/** Folders, parents first, that the links are in. */
export const CERTIFICATE_FOLDERS = ['etc/ssl', 'etc/ssl/certs'];

/** The file of a closure, as the sandbox shows it, that holds the certificates of authorities; undefined without one. */
export async function findCertificates(closure: readonly ClosurePath[]): Promise<string | undefined> {
  for (const { storePath, source } of closure) {
    if (NAME.test(storePath) && (await isFile(join(source, BUNDLE)))) return `${storePath}/${BUNDLE}`;
  }
  return undefined;
}

/** Makes the links in the root file system of a sandbox. */
export function linkCertificates(rootfs: string, file: string): void {
  for (const link of LINKS) symlinkSync(file, join(rootfs, link));
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isFile();
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}
