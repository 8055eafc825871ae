import { delimiter } from 'node:path';
import { CliError } from './cli-error.ts';

/** `a=b;c=d` (or with commas) → `{a:'b',c:'d'}`; an option may be given several times. */
export function parseTags(text: string, previous: Record<string, string> = {}): Record<string, string> {
  return {
    ...previous,
    ...parsePairs(
      text.split(/[;,]/).filter((pair) => pair !== ''),
      'tag',
    ),
  };
}

/** Paths of folders, separated as in PATH. */
export function parseFolders(text: string): string[] {
  return text.split(delimiter).filter((folder) => folder !== '');
}

/** `['A=1', 'B=x=y']` → `{A:'1',B:'x=y'}`. */
export function parsePairs(pairs: readonly string[], what: string): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at < 1) throw new CliError('CLI_USAGE', `Cannot read the ${what} "${pair}": write NAME=VALUE`);
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

/** 93784000 ms → `1d 2h 3m 4s`; parts that are zero are left out. */
export function friendlyDuration(ms: number): string {
  const seconds = Math.floor(ms / 1_000);
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3_600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const;
  return (
    parts
      .filter(([amount]) => amount > 0)
      .map(([amount, unit]) => `${amount}${unit}`)
      .join(' ') || '0s'
  );
}

/** Parser of an option whose value is a number above 0, whole or not. */
export function positive(what: string, { whole = false } = {}): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (value > 0 && value < Number.MAX_SAFE_INTEGER && (!whole || Number.isInteger(value))) return value;
    throw new CliError(
      'CLI_USAGE',
      `Cannot take "${text}" for ${what}: write a ${whole ? 'whole ' : ''}number above 0`,
    );
  };
}

/** Parser of an option whose value is a port; 0 stands for any free one. */
export function parsePort(text: string): number {
  if (/^\d{1,5}$/.test(text) && Number(text) < 65_536) return Number(text);
  throw new CliError('CLI_USAGE', `Cannot take "${text}" for a port: write a whole number from 0 to 65535`);
}
