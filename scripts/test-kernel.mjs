// The kernel that virtual machines of tests boot: a package of Debian, unpacked and not installed.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDebian, openApt, TOOLS } from './newest-debian.mjs';
import { say } from './system-tools.mjs';

/** The one that has its virtio drivers as small modules, and is small itself. */
const SUITE = 'bookworm';
const META_PACKAGE = { x64: 'linux-image-cloud-amd64', arm64: 'linux-image-cloud-arm64' }[process.arch];
/** Test-kit looks for it here (test/kit/src/tools.ts). */
const TARGET = join(TOOLS, 'kernel');

/** Unpacks it when it is absent and can be had; says so where it cannot: the tests that need it are skipped by name. */
export async function installTestKernel() {
  if (existsSync(join(TARGET, 'boot')) || META_PACKAGE === undefined || !isDebian()) return;
  say(`Unpacking a kernel of Debian for the tests (${SUITE}, 27 MB) …`);
  const work = mkdtempSync(join(tmpdir(), 'nex-kernel-'));
  try {
    const why = await unpackInto(work);
    if (why !== undefined) say(`Cannot get a kernel, tests that need it are skipped: ${why}`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Returns what went wrong. */
async function unpackInto(work) {
  const { run, failure, output, isReady } = await openApt(work, SUITE);
  if (!isReady) return failure();
  output.length = 0;
  if ((await run('apt-cache', 'show', META_PACKAGE)) !== 0) return failure();
  // The package that is always there depends on that of the newest kernel, whose name has the version.
  const { kernel } = /^Depends: (?<kernel>linux-image-[^ ,]+)/m.exec(Buffer.concat(output).toString())?.groups ?? {};
  if (kernel === undefined) return `${META_PACKAGE} names no kernel`;
  if ((await run('apt-get', '-qq', 'download', kernel)) !== 0) return failure();
  const file = readdirSync(work).find((name) => name.endsWith('.deb'));
  if (file === undefined) return `${kernel} was not downloaded`;
  if ((await run('dpkg-deb', '-x', file, join(work, 'kernel'))) !== 0) return failure();
  mkdirSync(TOOLS, { recursive: true });
  const beside = `${TARGET}.${process.pid}`;
  if ((await run('cp', '-a', join(work, 'kernel'), beside)) !== 0) return failure();
  rmSync(TARGET, { recursive: true, force: true });
  renameSync(beside, TARGET);
  return undefined;
}
