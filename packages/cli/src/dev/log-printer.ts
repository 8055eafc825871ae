import { once } from 'node:events';
import type { DevLogEntry } from '@nex-nix/devenv';
import { logLine, paintFor } from './service-style.ts';

/** Prints log entries on stdout: coloured lines for people, or with `json` an object a line. Waits for whoever reads slowly. */
export async function printEntries(entries: AsyncIterable<DevLogEntry>, { json }: { json: boolean }): Promise<number> {
  const paint = paintFor(process.stdout);
  let count = 0;
  for await (const entry of entries) {
    count++;
    await printLine(json ? JSON.stringify(entry) : logLine(entry, paint));
  }
  return count;
}

export async function printLine(line: string): Promise<void> {
  if (!process.stdout.write(`${line}\n`)) await once(process.stdout, 'drain');
}
