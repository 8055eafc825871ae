import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';
import { GuestError } from '../guest-error.ts';

const SBIN = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Debian's packages of the programs that building may ask for, where the name is not the same. */
const PACKAGES: Readonly<Record<string, string>> = {
  'mkfs.erofs': 'erofs-utils',
  'mkfs.ext4': 'e2fsprogs',
  busybox: 'busybox-static',
  dash: 'dash',
  chroot: 'coreutils',
  date: 'coreutils',
  xz: 'xz-utils',
  'dpkg-deb': 'dpkg',
};

/** Absolute path of a program on PATH, or in the folders for administrators that PATH often lacks. */
export async function findTool(name: string): Promise<string | undefined> {
  const folders = (process.env['PATH'] ?? '').split(delimiter).concat(SBIN).filter(isAbsolute);
  for (const folder of folders) {
    const path = join(folder, name);
    const usable = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (usable) return path;
  }
  return undefined;
}

/** @throws GuestError GUEST_TOOL_MISSING */
export async function demandTool(name: string, purpose: string): Promise<string> {
  const path = await findTool(name);
  if (path !== undefined) return path;
  throw new GuestError('GUEST_TOOL_MISSING', `Cannot ${purpose}: "${name}" is not installed`, {
    hint: `apt-get install ${PACKAGES[name] ?? 'util-linux'}`,
  });
}

export interface ToolOptions {
  input?: string | Uint8Array;
  signal?: AbortSignal | undefined;
}

/**
 * Runs a program to its end and gives what it printed. `purpose`: for the message, as in `build the image "x"`.
 *
 * @throws GuestError GUEST_BUILD_FAILED with what it said
 */
export async function runTool(
  purpose: string,
  [file = '', ...args]: readonly string[],
  { input, signal }: ToolOptions = {},
): Promise<Buffer> {
  signal?.throwIfAborted();
  // A group of its own: what it has started ends with it.
  const child = spawn(file, args, { cwd: '/', env: { PATH: process.env['PATH'], LC_ALL: 'C' }, detached: true });
  const abort = () => {
    if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, 'SIGKILL');
  };
  signal?.addEventListener('abort', abort, { once: true });
  const output: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  // Whoever does not read what it is sent says why by itself.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    signal?.throwIfAborted();
    if (code === 0) return Buffer.concat(output);
    const said = Buffer.concat(errors).toString().trim() || `it ended with ${code ?? child.signalCode}`;
    throw new GuestError('GUEST_BUILD_FAILED', `Cannot ${purpose}: ${file}: ${said.slice(-2_000)}`);
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}
