// Variables of the environment that the command reads.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { code, prose, table } from './markdown.ts';
import type { Command } from './parser.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Packages that a command runs in its own process, or in that of a node. */
const READERS = 'packages/{cli,devenv,nats-context,nix,sandbox}/src/**/*.ts';

/** Variables that stand for no option. */
const OTHERS: Readonly<Record<string, string>> = {
  CNI_PATH: 'folders with CNI plugins, before the usual ones; `--cni-path` is stronger',
  CREDENTIALS_DIRECTORY: 'set by systemd for units: files with secrets below it are used whatever their mode is',
  HOME: 'where `~/.nex`, `~/.config` and `~/.local/state` are',
  NATS_TOKEN: 'token to connect with',
  NEX_NATS_SERVER: 'the `nats-server` that `nex dev` starts',
  NIX_STATE_DIR: "where the machine's Nix keeps its database",
  NO_COLOR: 'no colours',
  PATH: 'where programs are looked for',
  TERM: 'what the terminal can do; with `dumb` nothing is drawn',
  XDG_CONFIG_HOME: 'where contexts of `nats` and configuration files are',
  XDG_STATE_HOME: "where a node's state is",
};

/** All variables, with the options that they stand for: these say so at the end of their descriptions. */
export function environmentTable(commands: readonly Command[]): string {
  const rows = new Map<string, string>(Object.entries(OTHERS));
  for (const command of commands) {
    for (const option of command.options) {
      const [, variable] = /\(([A-Z]+(?:_[A-Z]+)+)\)/.exec(option.description) ?? [];
      if (variable === undefined) continue;
      const description = option.description.replace(/ ?\([A-Z_]+\)(?:; default: .*)?/, '');
      rows.set(variable, `the same as ${code(option.long ?? option.flags)}: ${prose(description)}`);
    }
  }
  const missing = variablesInSource().filter((name) => !rows.has(name));
  if (missing.length > 0) {
    throw new Error(
      `Cannot document the environment: nothing says what ${missing.join(', ')} means; add a line to ${import.meta.filename}`,
    );
  }
  return table(
    ['Variable', 'Meaning'],
    [...rows].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, meaning]) => [code(name), meaning]),
  );
}

function variablesInSource(): string[] {
  const files = globSync(READERS, { cwd: ROOT }).filter((file) => !file.endsWith('.test.ts'));
  const names = files.flatMap((file) =>
    [...readFileSync(join(ROOT, file), 'utf8').matchAll(/\benv\['([A-Z][A-Z_]+)'\]/g)].map(([, name = '']) => name),
  );
  return [...new Set(names)].sort();
}
