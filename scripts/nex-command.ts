// Runs the nex command of this checkout: once, or as a daemon that ends with this process.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
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
  console.log(`\n$ nex ${args.map(shorten).join(' ')}`);
  const child = spawn(process.execPath, [NEX, ...args], {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ...env },
  });
  const [code] = (await once(child, 'close')) as [number | null];
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

/** Starts a nex daemon in a process group of its own (Ctrl-C on the terminal must not reach it) and waits until it is ready. */
export async function startDaemon(args: readonly string[], { env, logFile, ready }: DaemonOptions) {
  const log = await open(logFile, 'a');
  const child = spawn(process.execPath, [NEX, '--json', ...args], {
    // It watches its standard input: when this process dies, however it dies, the pipe closes and the daemon ends.
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
    env: { ...process.env, ...env },
  });
  const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  const readiness = Promise.withResolvers<Record<string, unknown>>();
  const lines = createInterface({ input: child.stderr });
  lines.on('line', (line) => {
    void log.appendFile(`${line}\n`);
    const entry = parseLine(line);
    if (entry['msg'] === ready) readiness.resolve(entry);
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  const readyLine = await Promise.race([
    readiness.promise,
    ended.then(([code, signal]) => failed(args, { code, signal, output, logFile })),
  ]);
  return {
    readyLine,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      const killer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT);
      await ended;
      clearTimeout(killer);
      await log.close();
    },
  };
}

function failed(
  args: readonly string[],
  end: { code: number | null; signal: string | null; output: string; logFile: string },
): never {
  const { error } = parseLine(end.output) as { error?: { message: string; hint?: string } };
  if (error !== undefined) throw new NexCommandError(error.message, error.hint);
  const command = args.slice(0, 4).join(' ');
  throw new NexCommandError(
    `"nex ${command}" ended with ${end.signal ?? `exit code ${end.code}`} before it was ready`,
    `Its log is ${end.logFile}`,
  );
}

function parseLine(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return {};
  }
}
