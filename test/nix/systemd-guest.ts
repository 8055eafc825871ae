import { copyFile, mkdir, realpath, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  buildErofs,
  type GuestManifest,
  type ImageFile,
  MANIFEST_FILE,
  readGuestImage,
  type TreeEntry,
} from '@nex-nix/guest';
import { findTool, guestImage } from '@nex-nix/test-kit';
import { sha256Of } from '../../packages/guest/src/image/guest-image.ts';
import { Programs } from '../../packages/guest/src/image/programs.ts';
import { readUnits, unitFiles } from './units.ts';

const SYSTEMD = '/usr/lib/systemd';

/** Units of systemd itself that those of a guest depend on, and what wants them. */
const OWN_UNITS: Readonly<Record<string, string | undefined>> = {
  'multi-user.target': undefined,
  'basic.target': undefined,
  'sysinit.target': undefined,
  'sockets.target': undefined,
  'shutdown.target': undefined,
  'umount.target': undefined,
  'systemd-journald.service': 'sysinit.target',
  'systemd-journald.socket': 'sockets.target',
  'systemd-journald-dev-log.socket': undefined,
};

/** As much of NixOS' second stage as its agent needs. */
const INIT = `#!/usr/bin/busybox sh
busybox=/usr/bin/busybox
$busybox mount -t tmpfs -o mode=755 tmpfs /run
$busybox mount -t tmpfs tmpfs /var
exec ${SYSTEMD}/systemd
`;

/**
 * Makes a guest image, in the folder `output`, that boots here as an image of the flake boots where nixpkgs is: the store
 * paths of that image, and systemd starting the units that are in its system. Kernel and first stage are those of the
 * minimal guest, systemd is this machine's.
 */
export async function systemdGuest(image: string, output: string): Promise<void> {
  const manifest = await readGuestImage(image);
  const minimal = await guestImage();
  await mkdir(output);
  for (const file of ['vmlinux', 'initrd']) await copyFile(join(minimal, file), join(output, file));
  await buildErofs({ output: join(output, 'root.erofs'), entries: await rootEntries(manifest) });
  const described: GuestManifest = {
    ...manifest,
    kernel: await describe(output, 'vmlinux'),
    initrd: await describe(output, 'initrd'),
    root: await describe(output, 'root.erofs'),
    commandLine: (await readGuestImage(minimal)).commandLine,
  };
  await writeFile(join(output, MANIFEST_FILE), JSON.stringify(described));
}

async function rootEntries({ storePaths }: GuestManifest): Promise<TreeEntry[]> {
  const system = storePaths.find(({ storePath }) => storePath.endsWith('-nixos-system-guest'))?.storePath ?? '';
  const programs = new Programs();
  // What the stub's packages are links to, and what else runs.
  const shell = await realpath('/bin/sh');
  const own = ['systemd', 'systemd-journald', 'systemd-shutdown'].map((program) => join(SYSTEMD, program));
  // This guest mounts nothing over /tmp, where a checkout may be.
  await programs.add(process.execPath, { at: process.execPath });
  for (const program of [findTool('mkfs.ext4') ?? '', shell, findTool('busybox') ?? '', ...own]) {
    await programs.add(program);
  }
  const units = unitFiles(await readUnits(system)).flatMap(({ name, text, wantedBy }) => [
    { name: `etc/systemd/system/${name}`, content: text },
    ...wantedBy.map((target) => ({ name: `etc/systemd/system/${target}.wants/${name}`, target: `../${name}` })),
  ]);
  const ownUnits = Object.entries(OWN_UNITS).flatMap(([unit, wantedBy]) => {
    const place = { name: `${SYSTEMD.slice(1)}/system/${unit}`, source: `${SYSTEMD}/system/${unit}` };
    if (wantedBy === undefined) return [place];
    return [place, { name: `etc/systemd/system/${wantedBy}.wants/${unit}`, target: place.source }];
  });
  return [
    ...(await Programs.mergedFolders()),
    ...programs.entries(),
    { name: `${(await realpath('/bin')).slice(1)}/sh`, target: shell },
    ...['dev', 'proc', 'sys', 'run', 'tmp', 'var', 'root'].map((name) => ({ name, folder: true as const })),
    { name: 'nex/init', content: INIT, executable: true },
    { name: 'etc/machine-id', content: `${'0'.repeat(31)}1\n` },
    { name: 'etc/passwd', content: 'root:x:0:0::/root:/bin/false\n' },
    { name: 'etc/group', content: 'root:x:0:\n' },
    { name: 'etc/systemd/system/default.target', target: `${SYSTEMD}/system/multi-user.target` },
    ...ownUnits,
    ...units,
    ...storePaths.map(({ storePath }) => ({ name: storePath.slice(1), source: storePath })),
  ];
}

async function describe(folder: string, file: string): Promise<ImageFile> {
  const path = join(folder, file);
  return { file, size: (await stat(path)).size, sha256: await sha256Of(path) };
}
