import { accessSync, constants, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { describe } from 'vitest';

/** Where tools lie that only tests need, programs in `bin`: `NEX_TEST_TOOLS`, or a folder of the user's cache. */
export const TEST_TOOLS = process.env['NEX_TEST_TOOLS'] ?? join(homedir(), '.cache/nex-nix-tools');

/** An unpacked package of a kernel, with `boot` and `lib/modules`: virtual machines of tests boot it. */
export const TEST_KERNEL = join(TEST_TOOLS, 'kernel');

/** Whether tests run on the newest nats-server instead of the system's own: set for a second run of those that talk to it most. */
const NEWEST_NATS = process.env['NEX_NATS_SERVER'] === 'newest';

/** Where network plugins are: the folders of CNI_PATH, which then are the ones that are tested, else Debian's. */
export const CNI_FOLDERS = (process.env['CNI_PATH'] ?? '/usr/lib/cni').split(delimiter);

/** Folders that PATH often lacks: those of administrators, and those of the network plugins. */
const MORE_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin', ...CNI_FOLDERS];

/**
 * Absolute path of an executable on PATH, in folders that PATH often lacks, or among the test tools; or undefined.
 * `linux-image` is the folder of a kernel: the one of the tests, or this machine's own.
 */
export function findTool(name: string): string | undefined {
  if (name === 'linux-image') return [TEST_KERNEL, '/'].find((root) => hasKernel(join(root, 'boot')));
  if (NEWEST_NATS && name === 'nats-server') return firstExecutable([join(TEST_TOOLS, 'nats-newest/bin')], name);
  const path = (process.env['PATH'] ?? '').split(delimiter);
  return firstExecutable(path.concat(MORE_FOLDERS, join(TEST_TOOLS, 'bin')), name);
}

function hasKernel(folder: string): boolean {
  try {
    return readdirSync(folder).some((name) => name.startsWith('vmlinuz-'));
  } catch {
    return false;
  }
}

function firstExecutable(folders: readonly string[], name: string): string | undefined {
  for (const folder of folders) {
    if (folder === '') continue;
    const candidate = join(folder, name);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      continue;
    }
  }
  return undefined;
}

/** `describe`, but skipped with a title that names what is missing when a tool is not on this machine. */
export function describeWith(tools: readonly string[], title: string, body: () => void): void {
  const missing = tools.filter((tool) => findTool(tool) === undefined);
  if (missing.length === 0) describe(title, body);
  else describe.skip(`${title} (skipped: ${missing.map(nameOf).join(', ')} not installed)`, body);
}

function nameOf(tool: string): string {
  return NEWEST_NATS && tool === 'nats-server' ? 'newest nats-server' : tool;
}
