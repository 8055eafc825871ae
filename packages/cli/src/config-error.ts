import { CliError } from './cli-error.ts';

/** `origin`: which key of which file, as in `the key "tags" of "config.json"`. */
export function invalidValue(origin: string, why: string, cause?: unknown): CliError {
  return new CliError('CLI_CONFIG_INVALID', `Cannot use ${origin}: ${why}`, { cause });
}

/** A value's kind, for people. */
export function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}
