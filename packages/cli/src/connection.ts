import type { NatsSettings } from '@nex-nix/nats-context';
import type { Command } from 'commander';
import { CliError } from './cli-error.ts';
import type { Config } from './config-files.ts';
import { CONNECTION_OPTIONS } from './global-options.ts';
import { valueOf } from './settle-options.ts';

/** Where to connect and as whom: the flags, and beside them what configuration files say. */
export interface ConnectionSettings extends NatsSettings {
  readonly configured: NatsSettings;
}

/** Reads the options of a command line and of the configuration files that say where to connect. */
export function connectionSettings(root: Command, config: Config): ConnectionSettings {
  const flags = Object.fromEntries(
    CONNECTION_OPTIONS.map((option) => [option.name(), root.getOptionValue(option.attributeName()) as unknown]),
  );
  const configured = Object.fromEntries(
    CONNECTION_OPTIONS.flatMap((option) => {
      const found = config.get(option.name());
      return found === undefined ? [] : [[option.name(), valueOf(option, found)]];
    }),
  );
  return { ...settingsOf(flags), configured: settingsOf(configured) };
}

function settingsOf(values: Readonly<Record<string, unknown>>): NatsSettings {
  const text = (name: string): string | undefined => values[name] as string | undefined;
  return {
    context: text('context') ?? text('nats.context'),
    servers: text('nats.servers'),
    creds: text('nats.creds-file'),
    jwt: text('nats.jwt'),
    seed: text('nats.seed') ?? seedFile(text('nats.nkey')),
    user: text('nats.user'),
    password: text('nats.password'),
    tlsCert: text('nats.tlscert'),
    tlsKey: text('nats.tlskey'),
    tlsCa: text('nats.tlsca'),
    tlsFirst: values['nats.tlsfirst'] === true,
    jetstreamDomain: text('nats.jsdomain'),
  };
}

/** Go nex takes the public key here, whose seed comes beside it; its help text speaks of a file with the seed. */
function seedFile(nkey: string | undefined): string | undefined {
  if (nkey === undefined || !/^U[A-Z2-7]{55}$/.test(nkey)) return nkey;
  throw new CliError('CLI_USAGE', `Cannot connect as the user of the nkey ${nkey}: its seed is missing`, {
    hint: 'Add --nats.seed SU…, or give --nats.nkey the file with the seed',
  });
}
