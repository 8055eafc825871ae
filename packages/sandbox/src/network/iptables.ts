import { demand } from './network-command.ts';

/** The rules of a table, as `iptables-save` prints them: `-A <chain> …` and `:<chain> …`. */
export async function readRules(table: 'filter' | 'nat'): Promise<string[]> {
  return (await demand('read firewall rules', ['iptables-save', '-t', table])).split('\n');
}

/**
 * Changes a table, all of it at once or nothing. Each change is a line as `iptables-restore` takes it; what a line of
 * `iptables-save` says can be given back with `-A` replaced by `-D`.
 */
export async function changeRules(table: 'filter' | 'nat', changes: readonly string[]): Promise<void> {
  if (changes.length === 0) return;
  const input = [`*${table}`, ...changes, 'COMMIT', ''].join('\n');
  await demand('change firewall rules', ['iptables-restore', '--wait', '--noflush'], { input });
}

/** The chain that a rule is in; undefined when the line is no rule. */
export function chainOf(line: string): string | undefined {
  return /^-A (\S+) /.exec(line)?.[1];
}

/** The chain that a rule jumps to. */
export function targetOf(line: string): string | undefined {
  return / -[jg] (\S+)/.exec(line)?.[1];
}
