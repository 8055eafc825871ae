import type { GuestManifest } from '@nex-nix/guest';
import { formatBytes, table } from './output.ts';

/** A guest image as a table for people. */
export function describeGuest(folder: string, manifest: GuestManifest): string {
  const { kind, system, agent, protocol, kernel, initrd, root, storePaths } = manifest;
  const files = { Kernel: kernel, Initrd: initrd, 'Root image': root };
  return table(
    `Guest image ${folder}`,
    ['', ''],
    [
      ['Kind', `${kind}, ${system}`],
      ['Agent', `${agent}, protocol ${protocol.join(', ')}`],
      ...Object.entries(files).map(([what, { file, size }]) => [what, `${file}, ${formatBytes(size)}`]),
      ['Store paths', String(storePaths.length)],
    ],
  );
}
