import {
  chmodSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readlinkSync,
  type Stats,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { CERTIFICATE_FOLDERS, findCertificates, linkCertificates } from './certificates.ts';
import { hasErrno } from '../file-errors.ts';
import { SandboxError } from '../sandbox-error.ts';
import type { ClosurePath, SandboxSpec } from '../sandbox.ts';

/** Folders of the root, parents first; but for `/etc` and `/nix` something is mounted on or in them. */
const FOLDERS = ['', 'dev', 'etc', 'nix', 'nix/store', 'proc', 'tmp'];

/** Ids inside the sandbox that its program runs with. */
export interface InsideUser {
  uid: number;
  gid: number;
}

/**
 * Writes the root file system of a sandbox: folders to mount on, `/etc`
 * (with links to the certificates of authorities, if its closure has them), and in `/nix/store` the store paths that are
 * symbolic links, since a mount would follow those through this machine's folders.
 *
 * @param ids `user`: the program's, inside. `rootId`: what the root user inside is outside. `resolvConf`: text of its file.
 * @returns The closure's other paths, which are to be mounted.
 * @throws SandboxError SANDBOX_SOURCE_NOT_FOUND
 */
export async function writeRootfs(
  rootfs: string,
  spec: SandboxSpec,
  { resolvConf, ...ids }: { user: InsideUser; rootId: number; resolvConf: string },
): Promise<ClosurePath[]> {
  const { privateFolder } = spec;
  const mountPoints = privateFolder === undefined ? [] : ['run', privateFolder.path.slice(1)];
  const certificates = await findCertificates(spec.closure);
  const certificateFolders = certificates === undefined ? [] : CERTIFICATE_FOLDERS;
  writeSkeleton(rootfs, [...FOLDERS, ...certificateFolders, ...mountPoints], etcFiles(spec, ids.user, resolvConf));
  if (certificates !== undefined) linkCertificates(rootfs, certificates);
  const links = spec.closure.map((path) => writeIfLink(rootfs, path, ids.rootId));
  return spec.closure.filter((_, index) => !links[index]);
}

/** Synchronous: two dozen calls take less time than one round trip through the thread pool for each. */
function writeSkeleton(rootfs: string, folders: readonly string[], etc: readonly [name: string, text: string][]): void {
  for (const name of folders) {
    const folder = join(rootfs, name);
    mkdirSync(folder);
    chmodSync(folder, 0o755);
  }
  for (const [name, text] of etc) {
    const file = join(rootfs, 'etc', name);
    writeFileSync(file, text);
    chmodSync(file, 0o644);
  }
}

function writeIfLink(rootfs: string, { storePath, source }: ClosurePath, rootId: number): boolean {
  const isLink = lstatSource(storePath, source).isSymbolicLink();
  if (isLink) {
    symlinkSync(readlinkSync(source), join(rootfs, storePath));
    // The runtime copies it together with its owner, who must exist inside.
    lchownSync(join(rootfs, storePath), rootId, rootId);
  }
  return isLink;
}

function lstatSource(storePath: string, source: string): Stats {
  try {
    return lstatSync(source);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT', 'ENOTDIR')) throw error;
    throw new SandboxError(
      'SANDBOX_SOURCE_NOT_FOUND',
      `Cannot show "${storePath}" in a sandbox: "${source}" does not exist`,
      { cause: error },
    );
  }
}

function etcFiles({ id, hosts = {} }: SandboxSpec, { uid, gid }: InsideUser, resolvConf: string): [string, string][] {
  const named = Object.entries(hosts).map(([address, names]) => `${address} ${names.join(' ')}\n`);
  return [
    ['passwd', `nex:x:${uid}:${gid}::/tmp:/bin/false\nnobody:x:65534:65534::/:/bin/false\n`],
    ['group', `nex:x:${gid}:\nnogroup:x:65534:\n`],
    ['hosts', `127.0.0.1 localhost ${id}\n::1 localhost\n${named.join('')}`],
    // glibc asks DNS before /etc/hosts when there is no such file.
    ['nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n'],
    ['resolv.conf', resolvConf],
  ];
}
