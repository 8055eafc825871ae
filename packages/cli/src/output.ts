import { createRequire } from 'node:module';
import { inspect, styleText } from 'node:util';
import { toPublicError } from '@nex-nix/errors';
import type TableClass from 'cli-table3';

// Loaded where a table is printed only: start-up is felt.
const require = createRequire(import.meta.url);

/** What a command has to say: a value for `--json`, text for people. */
export interface Result {
  readonly value: unknown;
  readonly text: string;
  /** What the command ends with when it has done what was asked and found something wrong. @default 0 */
  readonly exitCode?: number;
}

export function printResult(result: Result, json: boolean): void {
  process.stdout.write(json ? `${JSON.stringify(result.value, undefined, 2)}\n` : `${result.text}\n`);
}

/** Message and hint on stderr, or `{error:{code,message,hint}}` on stdout for `--json`. Stack traces with `debug` only. */
export function printError(error: unknown, { json = false, debug = false } = {}): void {
  const shown = toPublicError(error);
  if (json) process.stdout.write(`${JSON.stringify({ error: shown }, undefined, 2)}\n`);
  else {
    process.stderr.write(`${styleText('red', 'error:', { stream: process.stderr })} ${shown.message}\n`);
    if (shown.hint !== undefined)
      process.stderr.write(`${styleText('cyan', 'hint:', { stream: process.stderr })}  ${shown.hint}\n`);
    if (shown.code === 'INTERNAL' && !debug)
      process.stderr.write('This is a fault of nex itself; run it again with --debug for its stack trace\n');
  }
  if (debug) process.stderr.write(`${inspect(error)}\n`);
}

/** A titled table with rounded corners. */
export function table(title: string, head: readonly string[], rows: readonly (readonly string[])[]): string {
  const Table = require('cli-table3') as typeof TableClass;
  const view = new Table({
    head: [...head],
    // Compact: a line below the head, none between the rows.
    style: { head: [], border: [], compact: true },
    chars: { 'top-left': '╭', 'top-right': '╮', 'bottom-left': '╰', 'bottom-right': '╯' },
  });
  view.push(...rows.map((row) => [...row]));
  return `${title}\n${view.toString()}`;
}

/** 1234567 → `1.2 MiB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
