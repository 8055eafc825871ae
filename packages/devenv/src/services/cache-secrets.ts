import { randomBytes } from 'node:crypto';
import { chmod } from 'node:fs/promises';
import { hostname } from 'node:os';
import { formatPublicKey, formatSecretKey, generateSecretKey, parseSecretKey, publicKeyOf } from '@nex-nix/nix';
import { DevError } from '../dev-error.ts';
import { devPaths } from '../dev-paths.ts';
import { ensurePrivateFile, readIfPresent, writePrivateFile } from '../write-file.ts';

/** Where the HTTP door of the cache listens. */
export const CACHE_HOST = '127.0.0.1';
const TOKEN_BYTES = 32;
/** What a token may be, wherever it came from: long enough not to be guessed, and one word for netrc. */
const TOKEN = /^\S{16,}$/;

/**
 * Makes key and token of the cache where they are missing. Returns the public key in Nix's syntax.
 *
 * @throws {DevError} DEVENV_CACHE_INVALID
 */
export async function ensureCacheSecrets(dataDir: string): Promise<string> {
  const { cacheKey } = devPaths(dataDir);
  const present = await cachePublicKey(dataDir);
  await ensureToken(dataDir);
  if (present !== undefined) {
    await chmod(cacheKey, 0o600);
    return present;
  }
  const key = generateSecretKey(`nex-dev-${hostname()}`);
  await writePrivateFile(cacheKey, `${formatSecretKey(key)}\n`);
  return formatPublicKey(publicKeyOf(key));
}

/**
 * The public key of the cache, in Nix's syntax; undefined while there is none.
 *
 * @throws {DevError} DEVENV_CACHE_INVALID
 */
export async function cachePublicKey(dataDir: string): Promise<string | undefined> {
  const file = devPaths(dataDir).cacheKey;
  const text = await readIfPresent(file);
  if (text === undefined) return undefined;
  try {
    return formatPublicKey(publicKeyOf(parseSecretKey(text.trim())));
  } catch (cause) {
    throw invalid(`the key of the cache in "${file}"`, { why: (cause as Error).message, file, cause });
  }
}

async function ensureToken(dataDir: string): Promise<void> {
  const { cacheToken: file, cacheNetrc } = devPaths(dataDir);
  const present = (await readIfPresent(file))?.trim();
  if (present !== undefined) await chmod(file, 0o600);
  if (present !== undefined && !TOKEN.test(present)) {
    throw invalid(`the token of the cache in "${file}"`, { why: 'it needs 16 characters, no spaces', file });
  }
  const token = present ?? randomBytes(TOKEN_BYTES).toString('base64url');
  if (present === undefined) await writePrivateFile(file, `${token}\n`);
  await ensurePrivateFile(cacheNetrc, `machine ${CACHE_HOST} login nex password ${token}\n`);
}

function invalid(what: string, { why, file, cause }: { why: string; file: string; cause?: unknown }): DevError {
  return new DevError('DEVENV_CACHE_INVALID', `Cannot use ${what}: ${why}`, {
    hint: `Put back what it was; or have a new one made: rm ${file}`,
    cause,
  });
}
