import { NixError, parseSecretKey, type SecretKey } from '@nex-nix/nix';
import { CliError } from './cli-error.ts';
import { readSecretFile } from './secret-file.ts';

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
