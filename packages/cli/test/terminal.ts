import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readlinkSync } from 'node:fs';
import { stripVTControlCharacters } from 'node:util';
import { waitFor } from '@nex-nix/test-kit';
import { nexCommand } from '../../../test/e2e/nex.ts';

export interface TerminalOptions {
  columns?: number;
  rows?: number;
  env?: Record<string, string>;
}

/** A program under a pseudo-terminal, and what that shows. */
export interface Terminal extends AsyncDisposable {
  /** Process id of the program. */
  readonly pid: number;
  /** The lines of the alternate screen, without colours; undefined while the normal one is shown. */
  page(): string[] | undefined;
  /** What was written to the normal screen. */
  normal(): string;
  /** Everything that was written, as it came. */
  raw(): string;
  type(keys: string): void;
  resize(columns: number, rows: number): void;
  /** What stty says of the terminal: `-icanon` in raw mode. The normal screen ends with what it says in the end. */
  settings(): string;
  kill(signal: NodeJS.Signals): void;
  /** Exit code as a shell has it. */
  readonly exited: Promise<number | null>;
  /** Ends the terminal as if its window was closed. */
  close(): void;
}

/** Runs the nex command under a terminal that `script` of util-linux makes. */
export async function nexInTerminal(args: readonly string[], options: TerminalOptions = {}): Promise<Terminal> {
  const { command, env } = nexCommand(args, { NO_COLOR: undefined, ...options.env });
  return inTerminal(command, { ...options, env });
}

/** Any program. */
export async function inTerminal(
  command: readonly string[],
  { columns = 100, rows = 24, env }: Omit<TerminalOptions, 'env'> & { env: NodeJS.ProcessEnv },
): Promise<Terminal> {
  const quoted = command.map(quote).join(' ');
  const inner = `echo "pid $$ $(tty)"; exec ${quoted}`;
  // The outer shell lives on, also after Ctrl-C, to tell what the program has made of the terminal.
  const script = `trap : INT; stty cols ${columns} rows ${rows}; sh -c ${quote(inner)}; code=$?; echo; stty -a; exit $code`;
  const child = spawn('script', ['-qfec', script, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...env, SHELL: '/bin/sh', TERM: env['TERM'] ?? 'xterm-256color' },
  });
  let raw = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (raw += text));
  child.stdin.on('error', () => undefined);
  const exited = once(child, 'close').then(([code]) => code as number | null);
  const [, pid = '', device = ''] = await waitFor('the terminal', () => /^pid (\d+) (\S+)\r\n/.exec(raw));
  const stty = (...words: string[]): string => execFileSync('stty', ['-F', device, ...words], { encoding: 'utf8' });
  const kill = (signal: NodeJS.Signals): void => void process.kill(Number(pid), signal);
  return {
    pid: Number(pid),
    page: () => pageOf(raw),
    normal: () => stripVTControlCharacters(normalOf(raw)),
    raw: () => raw,
    type: (keys) => void child.stdin.write(keys),
    resize: (wide, high) => void stty('cols', String(wide), 'rows', String(high)),
    settings: () => stty('-a'),
    kill,
    exited,
    close: () => void child.kill('SIGKILL'),
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await exited;
      await waitFor('the program to notice that its terminal has gone', () => isGone(Number(pid)), { timeout: 60_000 });
    },
  };
}

function quote(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

export function isGone(pid: number): boolean {
  try {
    readlinkSync(`/proc/${pid}/exe`);
    return false;
  } catch {
    return true;
  }
}

const ENTER = '\u001B[?1049h';
const LEAVE = '\u001B[?1049l';

function normalOf(raw: string): string {
  return raw
    .split(ENTER)
    .map((part, index) => (index === 0 ? part : part.split(LEAVE).slice(1).join('')))
    .join('');
}

/** The alternate screen: its lines are written whole, each from its first column. */
function pageOf(raw: string): string[] | undefined {
  const at = raw.lastIndexOf(ENTER);
  if (at === -1 || raw.includes(LEAVE, at)) return undefined;
  const rows: string[] = [];
  let row = 0;
  for (const part of raw
    .slice(at + ENTER.length)
    .split('\u001B[2J')
    .at(-1)
    ?.split('\u001B[') ?? []) {
    const place = /^(\d+);1H/.exec(part);
    // Any other sequence is a colour, or clears what is behind the line.
    const text = place === null ? part.replace(/^[\d;?]*[A-Za-z]/, '') : part.slice(place[0].length);
    if (place === null) rows[row] = (rows[row] ?? '') + text;
    else rows[(row = Number(place[1]) - 1)] = text;
  }
  return Array.from(rows, (line: string | undefined) => line?.trimEnd() ?? '');
}
