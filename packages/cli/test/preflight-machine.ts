import { existsSync, realpathSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { CNI_FOLDERS, startProcess } from '@nex-nix/test-kit';
import { nexCommand } from '../../../test/e2e/nex.ts';

export interface ReportItem {
  name: string;
  met: boolean;
  essential: boolean;
  detail: string;
  hint?: string;
  remedy?: string;
}

export interface Report {
  ready: boolean;
  groups: { title: string; searched: string[]; items: ReportItem[] }[];
}

/** How the machine that a preflight sees differs from this one. */
export interface Change {
  /** Programs and CNI plugins that it does not have, wherever they are here. */
  without?: readonly string[];
  /** Programs that are scripts there, by name. */
  scripts?: Readonly<Record<string, string>>;
  /** What is done in its mount namespace before. */
  mounts?: string;
  /** Words before the command. */
  prefix?: readonly string[];
  env?: Readonly<Record<string, string>>;
}

/** Runs `nex node preflight` as on another machine: in a mount namespace of its own, where something of this one is covered. */
export async function preflightOn(folder: string, args: readonly string[], change: Change = {}) {
  const { without = [], scripts = {}, mounts = '', prefix = [], env = {} } = change;
  const nothing = join(folder, 'nothing');
  await writeFile(nothing, '');
  const cover: string[] = [];
  for (const name of without) cover.push(...placesOf(name).map((path) => `mount --bind ${nothing} ${path}`));
  for (const [name, text] of Object.entries(scripts)) {
    const file = join(folder, `${name}-${Math.random().toString(36).slice(2)}`);
    await writeFile(file, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    cover.push(...placesOf(name).map((path) => `mount --bind ${file} ${path}`));
  }
  const { command, env: environment } = nexCommand(['--json', ...args], { ...env });
  const script = [mounts, ...cover, 'exec "$@"'].filter(Boolean).join('\n');
  const words = ['--mount', '--propagation', 'private', 'sh', '-ec', script, 'sh', ...prefix, ...command];
  await using preflight = startProcess('unshare', words, { env: environment });
  const { code } = await preflight.exited;
  if (!preflight.stdout().startsWith('{')) throw new Error(`No report: ${preflight.output()}`);
  const report = JSON.parse(preflight.stdout()) as Report;
  const items = report.groups.flatMap((group) => group.items);
  return { code, report, items, missing: items.filter(({ met }) => !met).map(({ name }) => name) };
}

/** Files that are the program or plugin, where anybody looks. */
function placesOf(name: string): string[] {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin', ...CNI_FOLDERS];
  const there = folders.filter((folder) => existsSync(join(folder, name))).map((folder) => realpathSync(folder));
  return [...new Set(there)].map((folder) => join(folder, name));
}
