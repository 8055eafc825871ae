// The nex command of this checkout.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { NexError } from '@nex-nix/errors';

/** How it is run: program and first argument. */
export const NEX: readonly [string, string] = [
  process.execPath,
  join(import.meta.dirname, '../packages/cli/bin/nex.js'),
];

/** A nex command that ended with an error; it has printed its own message. */
class NexCommandError extends NexError<'NEX_COMMAND_FAILED'> {
  constructor(message: string, hint?: string) {
    super('failed', 'NEX_COMMAND_FAILED', message, { hint });
  }
}

interface NexOptions {
  env: Record<string, string>;
  signal: AbortSignal;
}

/** Shows the command line, runs it with its output on this terminal, and throws when it fails. */
export async function nex(args: readonly string[], { env, signal }: NexOptions): Promise<void> {
  signal.throwIfAborted();
  console.log(`\n$ nex ${args.map(shorten).join(' ')}`);
  const [program, ...first] = NEX;
  const child = spawn(program, [...first, ...args], {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ...env },
  });
  const stop = (): void => void child.kill('SIGTERM');
  signal.addEventListener('abort', stop, { once: true });
  const [code] = (await once(child, 'close')) as [number | null];
  signal.removeEventListener('abort', stop);
  signal.throwIfAborted();
  if (code !== 0)
    throw new NexCommandError(`"nex ${args.slice(0, 3).map(shorten).join(' ')}" failed with exit code ${code}`);
}

/** Secrets are not worth showing, and too long to read. */
function shorten(argument: string): string {
  return argument.replace(/^(NATS_JWT=.{8}).*$/s, '$1…');
}
