import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { resolveTarget } from '@nex-nix/nats-context';
import { NixError, parseSecretKey, type SecretKey } from '@nex-nix/nix';
import type { ConnectionSettings } from './connection.ts';
import { CliError } from './cli-error.ts';
import { readSecretFile } from './secret-file.ts';

/** Where the key of the context in use is kept, beside the contexts themselves; undefined when none is in use. */
export async function contextKeyFile(connection: ConnectionSettings): Promise<string | undefined> {
  const { name } = await resolveTarget(connection);
  if (name === '') return undefined;
  return join(process.env['XDG_CONFIG_HOME'] ?? join(homedir(), '.config'), 'nex/cache-keys', `${name}.key`);
}

/** The file of the key of the context in use, when it has one: made by `nex cache keygen`. */
export async function presentContextKeyFile(connection: ConnectionSettings): Promise<string | undefined> {
  const file = await contextKeyFile(connection);
  return file !== undefined && existsSync(file) ? file : undefined;
}

/**
 * The key that a cache signs with, out of the file that was named.
 *
 * @param warn told in a sentence that others may read the file.
 * @throws {CliError} CLI_USAGE
 */
export async function readCacheKey(file: string, warn: (message: string) => void): Promise<SecretKey> {
  const text = await readSecretFile(file, {
    what: 'the key of the cache',
    hint: `nex cache keygen --name cache.example.org-1 --out ${file}`,
    warn,
  });
  try {
    return parseSecretKey(text);
  } catch (cause) {
    if (!(cause instanceof NixError)) throw cause;
    throw new CliError('CLI_USAGE', `Cannot use the key of the cache in "${file}": it is no secret key`, {
      cause,
      hint: 'Give the file that nex cache keygen wrote; what it printed is the public key',
    });
  }
}
