import { resolve } from 'node:path';
import type { RunningDevServices } from '@nex-nix/devenv';
import { isNexError } from '@nex-nix/errors';
import type { Command } from 'commander';
import { shellWord } from './shell-words.ts';

/** Which dev services a command is about. */
export interface Target {
  dataDir: string;
}

export function addTarget(command: Command): Command {
  return command.option('--data-dir <folder>', 'where everything is kept', '.data');
}

/**
 * What runs on that data folder, over its socket.
 *
 * @throws {DevError} DEVENV_NOT_RUNNING
 */
export async function requireRunning({ dataDir }: Target): Promise<RunningDevServices> {
  const { connectDevServices } = await import('@nex-nix/devenv');
  return connectDevServices(resolve(dataDir));
}

/** The same; undefined when nothing runs there. */
export async function findRunning(target: Target): Promise<RunningDevServices | undefined> {
  try {
    return await requireRunning(target);
  } catch (error) {
    if (isNexError(error) && error.code === 'DEVENV_NOT_RUNNING') return undefined;
    throw error;
  }
}

/** The option that names the same dev services in a command to paste; nothing when it is not needed. */
export function sameTarget({ dataDir }: Target): string {
  return dataDir === '.data' ? '' : ` --data-dir ${shellWord(dataDir)}`;
}
