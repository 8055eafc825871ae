import type { Command } from 'commander';
import type { Context } from './context.ts';
import { facts } from './facts.ts';
import type { Result } from './output.ts';

const SECRETS = /password|seed|token|jwt|signingkey/i;

/** What the options of a command amount to and where each comes from: the answer to `--check`. Secrets are not shown. */
export function describeOptions(command: Command, context: Context): Result {
  const chain = [command, ...ancestors(command)];
  const options = chain.flatMap((owner) =>
    owner.options.flatMap((option) => {
      const key = option.attributeName();
      const value = owner.getOptionValue(key) as unknown;
      if (value === undefined || option.name() === 'check' || option.name() === 'version') return [];
      const source = owner.getOptionValueSource(key) ?? 'default';
      return [{ name: option.name(), value: hide(option.name(), value), source }];
    }),
  );
  const { configured, ...flags } = context.connection;
  const connection = { flags: hideAll(flags), configured: hideAll(configured) };
  const rows = options.map(({ name, value, source }) => [name, `${shown(value)} (${source})`] as const);
  const sources = Object.entries(connection).flatMap(([source, settings]) =>
    Object.entries(settings).map(([name, value]) => [`connection ${name}`, `${shown(value)} (${source})`] as const),
  );
  return {
    value: { options, connection, configFiles: context.configFiles },
    text: facts([...rows, ...sources, ['configuration files', context.configFiles.join('\n') || 'none']]),
  };
}

function hideAll(settings: object): Record<string, unknown> {
  const set = Object.entries(settings).filter(([, value]) => value !== undefined && value !== false);
  return Object.fromEntries(set.map(([name, value]) => [name, hide(name, value)]));
}

function hide(name: string, value: unknown): unknown {
  if (SECRETS.test(name.replaceAll('-', ''))) return '***';
  // A URL may hold a password.
  return typeof value === 'string' ? value.replaceAll(/\/\/[^/@,\s]+@/g, '//***@') : value;
}

function shown(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function ancestors(command: Command): Command[] {
  return command.parent === null ? [] : [command.parent, ...ancestors(command.parent)];
}
