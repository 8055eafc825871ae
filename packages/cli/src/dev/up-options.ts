import type { DevServicesOptions } from '@nex-nix/devenv';
import type { Command } from 'commander';
import { resolve } from 'node:path';
import { CliError } from '../cli-error.ts';
import { parsePort } from '../parse.ts';
import { nexCommand } from './nex-command.ts';
import { addTarget, type Target } from './target.ts';

/** What `nex dev up` starts, and where. */
export interface UpOptions extends Target {
  port?: number;
  monitorPort?: number;
  cache: boolean;
  cachePort?: number;
  node?: boolean;
}

export function addUpOptions(command: Command): Command {
  return addTarget(command)
    .option('--port <port>', 'port of the NATS server; default: that of the last start, 4222, or a free one', parsePort)
    .option('--monitor-port <port>', 'port of its monitoring; default likewise, 8222', parsePort)
    .option('--cache-port <port>', 'port of the binary cache, for Nix clients; default likewise, 8080', parsePort)
    .option('--no-cache', 'no binary cache but those of nodes')
    .option('--node', 'run a node, too; what follows -- are options of nex node up');
}

/** Options and arguments as the dev services take them. */
export function startOptions(options: UpOptions, nodeArguments: readonly string[]): DevServicesOptions {
  const { dataDir, port, monitorPort, cache, cachePort, node = false } = options;
  const [first] = nodeArguments;
  if (first !== undefined && !first.startsWith('-')) throw unknownCommand(first);
  if (first !== undefined && !node) {
    throw new CliError('CLI_USAGE', `Cannot take "${first}" for an option of the node: no node is to run`, {
      hint: `nex dev --node -- ${nodeArguments.join(' ')}`,
    });
  }
  return {
    dataDir: resolve(dataDir),
    port,
    monitorPort,
    cache,
    cachePort,
    node,
    nodeArguments,
    command: nexCommand(),
    natsServer: process.env['NEX_NATS_SERVER'],
  };
}

/** The same as words of a command line. */
export function upArguments(options: UpOptions, nodeArguments: readonly string[]): string[] {
  const { dataDir, port, monitorPort, cache, cachePort, node = false } = options;
  const ports = { '--port': port, '--monitor-port': monitorPort, '--cache-port': cachePort };
  return [
    '--data-dir',
    resolve(dataDir),
    ...Object.entries(ports).flatMap(([option, value]) => (value === undefined ? [] : [option, String(value)])),
    ...(cache ? [] : ['--no-cache']),
    ...(node ? ['--node', '--', ...nodeArguments] : []),
  ];
}

/** `nex dev` alone means `nex dev up`, so that a word that is no command arrives there. */
function unknownCommand(word: string): CliError {
  return new CliError('CLI_USAGE', `Cannot understand "${word}": it is no command of nex dev`, {
    hint: 'nex dev --help. A command stands before its options: nex dev status --data-dir FOLDER',
  });
}
