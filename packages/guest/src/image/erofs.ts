import { chmod, lstat, mkdir, mkdtemp, open, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GuestError } from '../guest-error.ts';
import { demandTool, runTool } from './tools.ts';
import { parentsOf, type TreeEntry } from './tree-entry.ts';

export interface ErofsOptions {
  /** Absolute path of the image. It appears whole; what was there is replaced. */
  output: string;
  entries: readonly TreeEntry[];
  signal?: AbortSignal;
}

/** Fixed, so that equal entries are equal bytes. */
const UUID = '6e65782d-6e69-7800-0000-000000000001';

/**
 * Builds an erofs image: plain, which is what a guest starts programs from fastest, all of it root's, without times and
 * extended attributes. Folders and files of this machine are put side by side by bind mounts in a mount namespace of its
 * own, nothing is copied and nothing is left when it is killed but a folder `<output>.XXXXXX`.
 *
 * Needs root, or user namespaces.
 *
 * @throws GuestError GUEST_TOOL_MISSING, GUEST_BUILD_FAILED
 */
export async function buildErofs({ output, entries, signal }: ErofsOptions): Promise<void> {
  const purpose = `build the image "${output}"`;
  const [mkfs, unshare, sh, mount] = await Promise.all(
    ['mkfs.erofs', 'unshare', 'sh', 'mount'].map((tool) => demandTool(tool, purpose)),
  );
  const work = await mkdtemp(`${output}.`);
  try {
    const tree = join(work, 'tree');
    const mounts = await makeTree(tree, entries, purpose);
    await writeFile(join(work, 'mounts'), mounts.map(mountLine).join(''));
    const rights = process.getuid?.() === 0 ? [] : ['--map-root-user'];
    const script = `set -e
find "$1/tree" -type d -exec chmod 755 {} +
[ ! -s "$1/mounts" ] || "$2" -a -T "$1/mounts"
"$3" --quiet -x-1 -T0 -U${UUID} --all-root "$1/image" "$1/tree"
`;
    const argv = [unshare, ...rights, '--mount', '--propagation', 'private', sh, '-s', work, mount, mkfs];
    await runTool(purpose, argv as string[], { input: script, signal });
    await chmod(join(work, 'image'), 0o444);
    await rename(join(work, 'image'), output);
  } finally {
    // The mounts were in the other namespace: here the tree has empty folders and files in their places.
    await rm(work, { recursive: true, force: true });
  }
}

interface BindMount {
  source: string;
  place: string;
}

/** Makes what is small, and the places of what is mounted. */
async function makeTree(tree: string, entries: readonly TreeEntry[], purpose: string): Promise<BindMount[]> {
  await mkdir(tree);
  const mounts: BindMount[] = [];
  // What is not a folder of the tree's own must have nothing below it: a link would lead out of the tree.
  const closed = new Set<string>();
  for (const entry of entries.toSorted(byName)) {
    const { name } = entry;
    if (!isPlain(name) || closed.has(name) || parentsOf([name]).some((parent) => closed.has(parent))) {
      const message = `Cannot ${purpose}: there is no place for the entry "${name}" in it`;
      throw new GuestError('GUEST_BUILD_FAILED', message);
    }
    if (!('folder' in entry)) closed.add(name);
    const place = join(tree, name);
    await mkdir(dirname(place), { recursive: true });
    const source = await makeEntry(place, entry, purpose);
    if (source !== undefined) mounts.push({ source, place });
  }
  return mounts;
}

function byName(one: TreeEntry, other: TreeEntry): number {
  return one.name < other.name ? -1 : Number(one.name > other.name);
}

/** Makes an entry, or an empty place for what is to be mounted there and then returned. */
async function makeEntry(place: string, entry: TreeEntry, purpose: string): Promise<string | undefined> {
  if ('source' in entry) return makePlace(place, entry.source, purpose);
  if ('folder' in entry) await mkdir(place, { recursive: true });
  else if ('target' in entry) await symlink(entry.target, place);
  else {
    await writeFile(place, entry.content);
    await chmod(place, entry.executable === true ? 0o555 : 0o444);
  }
  return undefined;
}

async function makePlace(place: string, source: string, purpose: string): Promise<string | undefined> {
  const stats = await lstat(source).catch((error: unknown) => {
    throw new GuestError('GUEST_BUILD_FAILED', `Cannot ${purpose}: "${source}" is not there`, { cause: error });
  });
  if (stats.isSymbolicLink()) {
    // Mounting would follow it, out of the image.
    await symlink(await readlink(source, 'buffer'), place);
    return undefined;
  }
  if (stats.isDirectory()) await mkdir(place, { recursive: true });
  else if (stats.isFile()) await (await open(place, 'wx')).close();
  else throw new GuestError('GUEST_BUILD_FAILED', `Cannot ${purpose}: "${source}" is neither file, folder nor link`);
  return source;
}

function isPlain(name: string): boolean {
  return (
    name !== '' && name.split('/').every((part) => part !== '' && part !== '.' && part !== '..') && !name.includes('\0')
  );
}

/** A line of fstab(5): many mounts are then one process. */
function mountLine({ source, place }: BindMount): string {
  return `${escaped(source)} ${escaped(place)} none bind 0 0\n`;
}

function escaped(path: string): string {
  return path.replaceAll(/[\s\\#]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`);
}
