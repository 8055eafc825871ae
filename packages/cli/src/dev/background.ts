import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { DevStatus } from '@nex-nix/devenv';
import { errorKind, type ErrorKind, NexError, type PublicError, toPublicError } from '@nex-nix/errors';
import { CliError } from '../cli-error.ts';
import { nexCommand } from './nex-command.ts';
import { shellWord } from './shell-words.ts';
import { plainText } from './terminal-text.ts';
import { type UpOptions, upArguments } from './up-options.ts';

/** What the process in the background tells the one that started it, over their channel. */
export type Report =
  | { readonly type: 'ready'; readonly status: DevStatus }
  | {
      readonly type: 'failed';
      readonly error: PublicError;
      readonly kind: ErrorKind;
      /** What the services at fault have printed last. */
      readonly lines: readonly string[];
    };

/** An error of the process in the background, told by the one that started it. */
class BackgroundError extends NexError {}

/** Where the output of the process itself goes; that of the services is in the log. */
function outputFile(dataDir: string): string {
  return join(dataDir, 'logs', 'background.log');
}

/**
 * Starts `nex dev up` in a session of its own and resolves when its services are ready. When they do not become so, or
 * `signal` is aborted before, it is gone when this rejects.
 *
 * @param onFailed told the last lines of the services at fault.
 */
export async function startInBackground(
  options: UpOptions,
  nodeArguments: readonly string[],
  { signal, onFailed }: { signal: AbortSignal; onFailed: (lines: readonly string[]) => void },
): Promise<DevStatus> {
  signal.throwIfAborted();
  const dataDir = resolve(options.dataDir);
  await mkdir(join(dataDir, 'logs'), { recursive: true });
  const output = await open(outputFile(dataDir), 'w', 0o600);
  const words = ['dev', 'up', '--reports-back', ...upArguments(options, nodeArguments)];
  const [program = '', ...args] = nexCommand();
  const child = spawn(program, [...args, ...words], {
    detached: true,
    stdio: ['ignore', output.fd, output.fd, 'ipc'],
  });
  await output.close();
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  const stop = (): void => void child.kill('SIGTERM');
  signal.addEventListener('abort', stop, { once: true });
  try {
    const report = await Promise.race([once(child, 'message') as Promise<[Report]>, exited.then(() => undefined)]);
    if (report?.[0].type === 'ready' && !signal.aborted) return report[0].status;
    const [code, killedBy] = await exited;
    signal.throwIfAborted();
    if (report?.[0].type !== 'failed') throw await endedUnsaid(dataDir, killedBy ?? `exit code ${code}`);
    const { error, kind, lines } = report[0];
    onFailed(lines);
    throw new BackgroundError(kind, error.code, error.message, { hint: error.hint });
  } finally {
    signal.removeEventListener('abort', stop);
    if (child.connected) child.disconnect();
    child.unref();
  }
}

async function endedUnsaid(dataDir: string, how: string): Promise<CliError> {
  const file = outputFile(dataDir);
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n').map(plainText);
  const last = lines.at(-1) ?? '';
  const why = last === '' ? '' : `; its last words: ${last}`;
  return new CliError('CLI_DEV_ENDED', `Cannot run dev services in "${dataDir}": the process ended (${how})${why}`, {
    hint: `cat ${shellWord(file)}`,
  });
}

/** In the process in the background: tells whoever started it, if that still listens, and lets go of it. */
export async function reportBack(report: Report): Promise<void> {
  if (!process.connected) return;
  await new Promise<void>((done) => {
    // Who has gone in this moment need not know: the services run, and nex dev status tells.
    process.send?.(report, undefined, undefined, () => done());
  });
  if (process.connected) process.disconnect();
}

/** A failure as it is told. */
export function failedReport(error: unknown, lines: readonly string[]): Report {
  return { type: 'failed', error: toPublicError(error), kind: errorKind(error), lines };
}
