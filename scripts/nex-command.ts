// Runs the nex command of this checkout: once, or as a daemon that ends with this process.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import { NexError } from '@nex-nix/errors';

const NEX = join(import.meta.dirname, '../packages/cli/bin/nex.js');
/** How long a daemon may take to clean up after SIGTERM, in milliseconds. */
const STOP_TIMEOUT = 20_000;

/** A nex command that ended with an error; it has printed its own message. */
export class NexCommandError extends NexError<'NEX_COMMAND_FAILED'> {
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
  const child = spawn(process.execPath, [NEX, ...args], {
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

interface DaemonOptions {
  env: Record<string, string>;
  logFile: string;
  /** Message of the log line that says that it is ready. */
  ready: string;
}

export interface Daemon extends AsyncDisposable {
  /** The log line that says that it is ready. Rejects when it ends before that. */
  readonly ready: Promise<Record<string, unknown>>;
  /** What to tell when the daemon has ended although nobody told it to. */
  readonly ended: Promise<NexCommandError>;
}

/**
 * Starts a nex daemon in a process group of its own, as Ctrl-C on the terminal must not reach it. Disposing of it stops it.
 */
export function startDaemon(args: readonly string[], { env, logFile, ready }: DaemonOptions): Daemon {
  const child = spawn(process.execPath, [NEX, '--json', ...args], {
    // It watches its standard input: when this process dies, however it dies, the pipe closes and the daemon ends.
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
    env: { ...process.env, ...env },
  });
  const closed = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  const logged = pipeline(child.stderr, createWriteStream(logFile, { flags: 'a' }));
  const readiness = Promise.withResolvers<Record<string, unknown>>();
  createInterface({ input: child.stderr }).on('line', (line) => {
    const entry = parseLine(line);
    if (entry['msg'] === ready) readiness.resolve(entry);
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  const ended = Promise.all([closed, logged]).then(([[code, signal]]) => {
    const { error } = parseLine(output) as { error?: { message: string; hint?: string } };
    if (error !== undefined) return new NexCommandError(error.message, error.hint);
    const command = args.filter((arg) => !arg.startsWith('-')).slice(1, 3);
    const end = signal ?? `exit code ${code}`;
    return new NexCommandError(`"nex ${command.join(' ')}" ended with ${end}`, `Its log is ${logFile}`);
  });
  return {
    ready: Promise.race([readiness.promise, ended.then((error) => Promise.reject(error))]),
    ended,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      const killer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT);
      await ended;
      clearTimeout(killer);
    },
  };
}

function parseLine(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return {};
  }
}
