import type { CacheServiceOptions } from '@nex-nix/cache';
import { type Command, Option } from 'commander';
import { wholeNumber } from './run-request/parse-run-options.ts';
import { parseBytes } from './units.ts';

/** JetStream keeps no more copies than this. */
const MOST_COPIES = 5;

/** How a command makes what it keeps in JetStream; what is there already stays as it is. */
export interface StorageOptions {
  jetstreamReplicas: number;
  cacheStorage: 'file' | 'memory';
  /** In bytes. */
  cacheMaxSize?: number;
}

/** Adds {@link StorageOptions} to a command. `what`: what it makes there besides the cache. */
export function addStorageOptions(command: Command, { what = '' }: { what?: string } = {}): Command {
  return command
    .option(
      '--jetstream-replicas <count>',
      `copies in a cluster of what it makes in JetStream: the cache${what}`,
      wholeNumber('a number of copies', { least: 1, most: MOST_COPIES }),
      1,
    )
    .addOption(
      new Option('--cache-storage <where>', 'where JetStream keeps the cache')
        .choices(['file', 'memory'])
        .default('file' as const),
    )
    .option(
      '--cache-max-size <size>',
      'how much the cache may hold, for example 100GiB; default: no bound',
      parseBytes,
    );
}

/** What of it concerns the cache. */
export function cacheStorage(options: StorageOptions): Pick<CacheServiceOptions, 'replicas' | 'storage' | 'maxBytes'> {
  const { jetstreamReplicas: replicas, cacheStorage: storage, cacheMaxSize: maxBytes } = options;
  return { replicas, storage, maxBytes };
}
