import { spawn } from 'node:child_process';
import { NixError, systemErrorCode } from '../nix-error.ts';

export interface RunNixOptions {
  /** The `nix` executable; found on PATH by default. */
  command?: string | undefined;
  cwd?: string | undefined;
  /** The whole environment; that of this process by default. */
  env?: NodeJS.ProcessEnv | undefined;
  signal?: AbortSignal | undefined;
  /** Receives what `nix` says on stderr, line by line. */
  onLog?: ((line: string) => void) | undefined;
}

export interface NixOutput {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const FEATURES = ['--extra-experimental-features', 'nix-command flakes'];

/**
 * Runs `nix` (2.4 or later) to its end, whatever the exit code.
 *
 * @throws {@link NixError} `NIX_COMMAND_MISSING`, `NIX_COMMAND_FAILED` when a signal ends it; the signal's reason on abort.
 */
export async function runNix(args: readonly string[], options: RunNixOptions = {}): Promise<NixOutput> {
  const { command = 'nix', cwd, env, signal, onLog } = options;
  signal?.throwIfAborted();
  const child = spawn(command, [...FEATURES, ...args], { cwd, env, signal, stdio: ['ignore', 'pipe', 'pipe'] });
  const stdout: Buffer[] = [];
  const stderr = new LineCollector(onLog);
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.setEncoding('utf8').on('data', (text: string) => stderr.push(text));
  const { error, code, killedBy } = await ending(child);
  stderr.end();
  signal?.throwIfAborted();
  if (error !== undefined) throw startError(command, error);
  if (code === null) {
    throw new NixError(
      'NIX_COMMAND_FAILED',
      `Cannot finish "${command} ${args.join(' ')}": it was ended by ${killedBy}`,
    );
  }
  return { code, stdout: Buffer.concat(stdout).toString(), stderr: stderr.text };
}

/** The last thing `nix` complained of, without colours and the word "error". */
export function lastComplaint({ stderr, code }: NixOutput): string {
  const lines = stderr.split('\n').map((line) => line.trim());
  const error = lines.findLast((line) => line.startsWith('error:')) ?? lines.findLast((line) => line !== '');
  return error?.replace(/^error:\s*/, '') || `it ended with exit code ${code}`;
}

interface Ending {
  error?: Error;
  code: number | null;
  killedBy: NodeJS.Signals | null;
}

function ending(child: ReturnType<typeof spawn>): Promise<Ending> {
  return new Promise((resolve) => {
    let error: Error | undefined;
    child.on('error', (failure) => {
      error = failure;
      // A process that could not start has no other event.
      if (child.pid === undefined) resolve({ error, code: null, killedBy: null });
    });
    child.on('close', (code, killedBy) => resolve({ ...(error === undefined ? {} : { error }), code, killedBy }));
  });
}

function startError(command: string, cause: Error): NixError {
  if (systemErrorCode(cause) !== 'ENOENT') {
    return new NixError('NIX_COMMAND_FAILED', `Cannot run "${command}": ${cause.message}`, { cause });
  }
  return new NixError('NIX_COMMAND_MISSING', `Cannot run "${command}": there is no such command`, {
    hint: 'Install Nix: apt-get install nix-bin, or see https://nixos.org/download',
    cause,
  });
}

class LineCollector {
  text = '';
  #line = '';
  readonly #onLine: ((line: string) => void) | undefined;

  constructor(onLine: ((line: string) => void) | undefined) {
    this.#onLine = onLine;
  }

  push(text: string): void {
    this.text += text;
    const lines = (this.#line + text).split('\n');
    this.#line = lines.pop() ?? '';
    for (const line of lines) this.#onLine?.(line);
  }

  end(): void {
    if (this.#line !== '') this.#onLine?.(this.#line);
    this.#line = '';
  }
}
