import { readFile, stat } from 'node:fs/promises';
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
    if (((await stat(file)).mode & OTHERS) !== 0) warn(`Other users may read ${what} in "${file}": chmod 600 ${file}`);
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
