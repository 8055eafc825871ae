import { existsSync } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Option } from 'commander';
import { CliError } from './cli-error.ts';

const LOCK = 'node.lock';

/** Where a node keeps its identity, store and sandboxes when nothing else is said. */
export function defaultStateDir(): string {
  if (process.getuid?.() === 0) return '/var/lib/nex-nix';
  return join(process.env['XDG_STATE_HOME'] ?? join(homedir(), '.local/state'), 'nex-nix');
}

/** `--state-dir`; `what` says whose folder it is. */
export function stateDirOption(what: string): Option {
  const described = '/var/lib/nex-nix for root, else nex-nix in $XDG_STATE_HOME or ~/.local/state';
  return new Option('--state-dir <folder>', what).default(defaultStateDir(), described);
}

/** The folder of a node's containers. */
export function sandboxesIn(stateDir: string): string {
  return join(stateDir, 'sandboxes');
}

/** The folder of a node's virtual machines. */
export function machinesIn(stateDir: string): string {
  return join(stateDir, 'machines');
}

/**
 * Makes a state folder when it is absent, and takes it for this process, as long as that lasts, however it ends.
 *
 * @throws {CliError} CLI_STATE_FOLDER_IN_USE
 */
export async function takeStateFolder(stateDir: string): Promise<Disposable> {
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  return lockIn(stateDir);
}

/**
 * The same for a folder that a node has had; on any other there is nobody to keep off it, and nothing is made.
 *
 * @throws {CliError} CLI_STATE_FOLDER_IN_USE
 */
export async function holdStateFolder(stateDir: string): Promise<Disposable | undefined> {
  return existsSync(join(stateDir, LOCK)) ? lockIn(stateDir) : undefined;
}

async function lockIn(stateDir: string): Promise<Disposable> {
  // Only those that need it load SQLite.
  const { tryLock } = await import('@nex-nix/nix');
  const lock = tryLock(join(stateDir, LOCK));
  if (lock !== undefined) return lock;
  throw new CliError('CLI_STATE_FOLDER_IN_USE', `Cannot use the state folder "${stateDir}": a node runs on it`, {
    hint: 'Stop that node first, or give another folder by --state-dir',
  });
}

/** @throws {CliError} CLI_STATE_FOLDER_NOT_FOUND */
export async function requireStateFolder(stateDir: string): Promise<void> {
  try {
    if ((await stat(stateDir)).isDirectory()) return;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  throw new CliError('CLI_STATE_FOLDER_NOT_FOUND', `Cannot clean "${stateDir}": there is no such folder`, {
    hint: 'Give the folder that nex node up had as --state-dir',
  });
}
