import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CliError } from './cli-error.ts';

interface SecretFileOptions {
  /** What is in the file, for messages: `the token`. */
  what: string;
  /** How to make such a file. */
  hint: string;
  /** Told in a sentence that others may read the file. */
  warn: (message: string) => void;
}

const OTHERS = 0o077;

/** The trimmed text of a file with a secret. Errors: `CliError` `CLI_USAGE`. */
export async function readSecretFile(file: string, { what, hint, warn }: SecretFileOptions): Promise<string> {
  try {
    const text = await readFile(file, 'utf8');
    // Some who hand out secrets give them to a group on purpose, so it is no error.
    if (!isFromSystemd(file) && ((await stat(file)).mode & OTHERS) !== 0)
      warn(`Other users may read ${what} in "${file}": chmod 600 ${file}`);
    return text.trim();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const isAbsent = code === 'ENOENT';
    throw new CliError(
      'CLI_USAGE',
      `Cannot read ${what} in "${file}": ${isAbsent ? 'there is no such file' : message}`,
      {
        cause: error,
        hint: isAbsent ? hint : undefined,
      },
    );
  }
}

/**
 * A seed as it is, or the one in a file.
 *
 * @param prefix What such seeds begin with.
 * @throws {CliError} CLI_USAGE
 */
export async function seedIn(text: string, prefix: string): Promise<string> {
  if (text.startsWith(prefix) && text.length === 58) return text;
  try {
    return (await readFile(text, 'utf8')).trim();
  } catch (cause) {
    throw new CliError('CLI_USAGE', `Cannot read a seed in "${text}": ${(cause as Error).message}`, {
      cause,
      hint: `Give the seed itself (${prefix}…), or the path of a file that holds it`,
    });
  }
}

/** Credentials of a unit are its own, whatever their mode says: a user of the unit's own gets at them by an access list. */
function isFromSystemd(file: string): boolean {
  return dirname(file) === process.env['CREDENTIALS_DIRECTORY'];
}
