import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, constants } from 'node:fs/promises';
import { CliError } from '../cli-error.ts';
import type { Remedy } from './group.ts';

/** Debian and what is made of it; elsewhere people know better how to install. */
const APT = '/usr/bin/apt-get';

export async function hasApt(): Promise<boolean> {
  try {
    await access(APT, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Installs packages where there is apt; undefined for who is not root. */
export function packageRemedy(names: readonly string[]): Remedy | undefined {
  if (process.getuid?.() !== 0) return undefined;
  return {
    what: `apt-get install ${names.join(' ')}`,
    run: async (signal) => {
      try {
        await apt(['install', '-y', '--no-install-recommends', ...names], signal);
      } catch {
        // The package lists of a new machine are often absent or old.
        await apt(['update'], signal);
        await apt(['install', '-y', '--no-install-recommends', ...names], signal);
      }
    },
  };
}

async function apt(args: readonly string[], signal: AbortSignal): Promise<void> {
  await runCommand([APT, '-qq', '-o', 'DPkg::Lock::Timeout=300', ...args], signal, {
    DEBIAN_FRONTEND: 'noninteractive',
  });
}

/** Runs a command whose output goes to stderr. @throws {CliError} CLI_MACHINE_UNFIT with its last words */
async function runCommand(
  [command = '', ...args]: readonly string[],
  signal: AbortSignal,
  environment: Readonly<Record<string, string>> = {},
): Promise<void> {
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
    signal,
  });
  let tail = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      tail = (tail + chunk.toString()).slice(-2000);
    });
  }
  const [code] = (await once(child, 'close')) as [number | null];
  if (code === 0) return;
  throw new CliError(
    'CLI_MACHINE_UNFIT',
    `Cannot do "${[command, ...args].join(' ')}": ${tail.trim() || `it ended with ${code}`}`,
  );
}
