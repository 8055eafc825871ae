// Every error code, out of the tables that the error classes are made of. Their comments say what the codes mean.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorClass, type ErrorKind, exitCode } from '@nex-nix/errors';
import { code, page, prose, table } from './markdown.ts';

const ROOT = join(import.meta.dirname, '../..');
const TABLE = /^const \w+ = \{\n(.*?)\n\} as const satisfies Record<string, ErrorKind>;$/ms;
const ENTRY = /^ {2}\/\*\* (.+?) \*\/\n {2}(\w+): '([a-z-]+)',$/ms;

/** One error code. */
export interface ErrorCode {
  /** Name of the package, without its scope. */
  readonly owner: string;
  readonly code: string;
  readonly kind: ErrorKind;
  readonly meaning: string;
}

/** `docs/reference/errors.md`. */
export function errorsPage(): string {
  const codes = errorCodes();
  const owners = [...new Set(codes.map(({ owner }) => owner))];
  return page(
    'Errors',
    'The codes of all errors. They are stable: scripts may match on them, in `--json` output and in logs. What to do about those that are met most often: [troubleshooting](../guides/troubleshooting.md).',
    'An error without one of these codes is a fault of the program, and has the code `INTERNAL` (exit code 1).',
    ...owners.flatMap((owner) => [
      `## ${owner}`,
      table(
        ['Code', 'Kind', 'Exit code', 'Meaning'],
        codes
          .filter((one) => one.owner === owner)
          .map(({ code: name, kind, meaning }) => [code(name), kind, String(exitCodeOf(kind)), prose(meaning)]),
      ),
    ]),
  );
}

/** Codes of all packages, sorted by package and code. */
export function errorCodes(): ErrorCode[] {
  const files = globSync('packages/*/src/**/*.ts', { cwd: ROOT }).sort();
  return files.flatMap((file) => {
    const text = readFileSync(join(ROOT, file), 'utf8');
    const [, entries] = TABLE.exec(text) ?? [];
    if (entries === undefined) return [];
    const owner = file.split('/')[1] ?? '';
    return readTable(entries, file)
      .map((entry) => ({ owner, ...entry }))
      .sort((a, b) => (a.code < b.code ? -1 : 1));
  });
}

function readTable(entries: string, file: string): Omit<ErrorCode, 'owner'>[] {
  // An entry ends with its comma; what is not of the form of one has no comment.
  return entries.split(/(?<=',)\n/).map((entry) => {
    const [, comment, name, kind] = ENTRY.exec(entry) ?? [];
    if (comment === undefined || name === undefined) {
      throw new Error(`Cannot document "${entry.trim()}" of ${file}: it has no comment that says what it means`);
    }
    const meaning = comment.replaceAll(/\n\s*\* ?/g, ' ').replaceAll('`', '');
    return { code: name, kind: kind as ErrorKind, meaning };
  });
}

function exitCodeOf(kind: ErrorKind): number {
  class OfKind extends errorClass({ X: kind }) {}
  return exitCode(new OfKind('X', 'x'));
}
