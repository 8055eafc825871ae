// Writes the guest.json of a guest image, in the build that has put its files into FOLDER (../packages/guest-image.nix):
//
//   node --conditions=nexsrc manifest.ts FOLDER ROOT_PATHS REGISTRATION FACTS
//
// ROOT_PATHS is a file with the store paths of the root image, a path a line. REGISTRATION is what closureInfo of nixpkgs says
// of them and others, in the format of `nix-store --load-db`. FACTS is JSON, see below.
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readGuestImage, sha256Of } from '../../packages/guest/src/image/guest-image.ts';
import { type GuestManifest, type ImageFile, MANIFEST_FILE } from '../../packages/guest/src/image/manifest.ts';
import { PROTOCOL_VERSIONS } from '../../packages/guest/src/protocol/messages.ts';
import { formatHash, parseHash } from '../../packages/nix/src/formats/hash.ts';

/** What only the evaluation of the system knows. */
type Facts = Pick<GuestManifest, 'system' | 'agent' | 'commandLine'>;

const [folder, rootPaths, registration, facts] = process.argv.slice(2);
if (folder === undefined || rootPaths === undefined || registration === undefined || facts === undefined) {
  throw new Error('usage: node --conditions=nexsrc manifest.ts FOLDER ROOT_PATHS REGISTRATION FACTS');
}

const { system, agent, commandLine } = JSON.parse(facts) as Facts;
const narHashes = readRegistration(await readFile(registration, 'utf8'));
const manifest: GuestManifest = {
  version: 1,
  kind: 'nixos',
  system,
  agent,
  protocol: [...PROTOCOL_VERSIONS],
  kernel: await describe(folder, 'vmlinux'),
  initrd: await describe(folder, 'initrd'),
  root: await describe(folder, 'root.erofs'),
  commandLine,
  storePaths: (await readFile(rootPaths, 'utf8'))
    .split('\n')
    .filter((line) => line !== '')
    .map((storePath) => ({ storePath, narHash: narHashOf(storePath) })),
};
await writeFile(join(folder, MANIFEST_FILE), `${JSON.stringify(manifest, null, 2)}\n`, { mode: 0o444 });
// What a host would refuse is not to become an image at all.
await readGuestImage(folder);

function narHashOf(storePath: string): string {
  const hash = narHashes.get(storePath);
  if (hash === undefined) throw new Error(`Cannot describe "${storePath}": ${registration} does not have it`);
  return hash;
}

/** NAR hashes in SRI syntax, by store path. A record is: path, hash, size, deriver, number of references, references. */
function readRegistration(text: string): Map<string, string> {
  const lines = text.split('\n');
  const hashes = new Map<string, string>();
  for (let at = 0; at + 4 < lines.length;) {
    const [path = '', hash = '', , , references = ''] = lines.slice(at, at + 5);
    // Without its algorithm where `nix-store --dump-db` has written it.
    const full = /^[0-9a-z]+$/.test(hash) ? `sha256:${hash}` : hash;
    hashes.set(path, formatHash(parseHash(full), 'sri'));
    at += 5 + Number(references);
  }
  return hashes;
}

async function describe(folder: string, file: string): Promise<ImageFile> {
  const path = join(folder, file);
  return { file, size: (await stat(path)).size, sha256: await sha256Of(path) };
}
