import { parentsOf, type TreeEntry } from './tree-entry.ts';

const FOLDER = 0o040755;
const LINK = 0o120777;
const FILE = 0o100644;
const EXECUTABLE = 0o100755;

/** What an initrd is made of: all of its content is in memory. */
export type CpioEntry = Exclude<TreeEntry, { source: string }>;

/**
 * An archive in the format that the kernel unpacks as initrd: cpio, `newc` (Documentation/driver-api/early-userspace/
 * buffer-format.rst). Everything belongs to root and has no time, so that equal entries are equal bytes.
 */
export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const given = new Set(entries.map(({ name }) => name));
  const parents = parentsOf([...given]).filter((name) => !given.has(name));
  const all = [...parents.map((name): CpioEntry => ({ name, folder: true })), ...entries];
  const records = all.map((entry, index) => record(entry.name, { ...modeAndData(entry), inode: index + 1 }));
  return Buffer.concat([...records.flat(), ...record('TRAILER!!!', { mode: 0, data: NOTHING, inode: 0 })]);
}

const NOTHING = Buffer.alloc(0);

function modeAndData(entry: CpioEntry): { mode: number; data: Buffer } {
  if ('folder' in entry) return { mode: FOLDER, data: NOTHING };
  if ('target' in entry) return { mode: LINK, data: Buffer.from(entry.target) };
  return { mode: entry.executable === true ? EXECUTABLE : FILE, data: Buffer.from(entry.content) };
}

function record(name: string, { mode, data, inode }: { mode: number; data: Buffer; inode: number }): Buffer[] {
  const path = Buffer.from(`${name}\0`);
  // inode, mode, uid, gid, links, mtime, size, device (2), device of a node (2), length of the name, checksum
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, path.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return [header, path, padding(header.length + path.length), data, padding(data.length)];
}

function padding(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}
