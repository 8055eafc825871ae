import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, realpath, rm, stat, utimes } from 'node:fs/promises';
import { once } from 'node:events';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { findTool, TEST_KERNEL, TEST_TOOLS } from './tools.ts';

/** What tests need that run a guest under QEMU: for `describeWith`. */
export const GUEST_TOOLS: readonly string[] = [
  'qemu-system-x86_64',
  'mkfs.erofs',
  'busybox',
  'mkfs.ext4',
  'linux-image',
];

const SOURCES = join(import.meta.dirname, '../../../packages/guest/src');
const INDEX = pathToFileURL(join(SOURCES, 'index.ts')).href;
const BUILDER = join(SOURCES, 'image');
const IMAGES = join(TEST_TOOLS, 'guests');
/** An image that no test run has asked for as long as this may go, in milliseconds. */
const UNUSED_MS = 3_600_000;

/** What the bytes of an image depend on beside the sources. */
const INPUTS = ['mkfs.erofs', 'busybox', 'mkfs.ext4', 'socat', 'linux-image'];

/**
 * The folder of the minimal guest, read-only: built when this machine has none of these sources, agent, kernel and Node
 * yet. Wants `GUEST_TOOLS`.
 */
export async function guestImage(): Promise<string> {
  await mkdir(IMAGES, { recursive: true });
  const folder = join(IMAGES, await key());
  if (!existsSync(join(folder, 'guest.json'))) await build(folder);
  const now = new Date();
  await utimes(folder, now, now);
  await removeUnused(folder);
  return folder;
}

async function key(): Promise<string> {
  const { agentBundle } = (await import(INDEX)) as { agentBundle: () => Promise<{ code: Buffer }> };
  const hash = createHash('sha256').update((await agentBundle()).code);
  for (const file of (await readdir(BUILDER)).sort()) {
    if (!file.endsWith('.test.ts')) hash.update(`\0${file}\0`).update(await readFile(join(BUILDER, file)));
  }
  for (const program of [process.execPath, ...INPUTS.map((tool) => findTool(tool))]) {
    if (program === undefined) continue;
    const path = await realpath(program);
    const { size, mtimeMs } = await stat(path);
    hash.update(`\0${path} ${size} ${mtimeMs}`);
  }
  return hash.digest('hex').slice(0, 24);
}

/** In a process of its own, under a lock of the kernel: whoever waits finds it built, and a killed builder holds nothing. */
async function build(folder: string): Promise<void> {
  const script = `
    const { existsSync } = await import('node:fs');
    const { buildMinimalGuest, findKernel } = await import(${JSON.stringify(INDEX)});
    const [folder, root] = process.argv.slice(1);
    if (!existsSync(folder)) await buildMinimalGuest({ output: folder, kernel: await findKernel(root) });`;
  const root = existsSync(TEST_KERNEL) ? TEST_KERNEL : '/';
  const node = [process.execPath, '--conditions=nexsrc', '--input-type=module', '--eval', script, folder, root];
  const child = spawn('flock', [join(IMAGES, 'lock'), ...node], { stdio: ['ignore', 'ignore', 'pipe'] });
  const errors: Buffer[] = [];
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`Cannot build the guest for tests: ${Buffer.concat(errors).toString().trim()}`);
}

async function removeUnused(used: string): Promise<void> {
  for (const entry of await readdir(IMAGES, { withFileTypes: true })) {
    const folder = join(IMAGES, entry.name);
    if (!entry.isDirectory() || folder === used) continue;
    const stats = await stat(folder).catch(() => undefined);
    if (stats !== undefined && Date.now() - stats.mtimeMs > UNUSED_MS)
      await rm(folder, { recursive: true, force: true });
  }
}
