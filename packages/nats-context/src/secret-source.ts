import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { ContextError } from './context-error.ts';

/** Replaces `$VAR` and `${VAR}` (unset: empty) and then a leading `~`, as natscli does with the paths in a context. */
export function expandPath(path: string, env: NodeJS.ProcessEnv = process.env): string {
  const expanded = path.replaceAll(
    /\$(?:\{(\w+)\}|(\w+))/g,
    (_, braced: string | undefined, bare: string | undefined) => env[braced ?? bare ?? ''] ?? '',
  );
  if (expanded === '~') return homedir();
  return expanded.startsWith('~/') ? join(homedir(), expanded.slice(2)) : expanded;
}

/** A path from a certificate field: bare or `file://`. */
export function filePath(field: string, value: string): string {
  const path = value.startsWith('file://') ? value.slice('file://'.length) : value;
  if (path.includes('://')) throw unsupported(field, path);
  return expandPath(path);
}

/** Resolves a field whose bare value is a path (`creds`, `nkey`). The function re-reads a file at each call. */
export function fileSecret(field: string, value: string): () => string {
  const literal = resolveScheme(field, value);
  if (literal !== undefined) return () => literal;
  const path = filePath(field, value);
  return () => {
    try {
      return readFileSync(path, 'utf8');
    } catch (cause) {
      const why = (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'it does not exist' : (cause as Error).message;
      throw new ContextError('CONTEXT_CREDENTIALS', `Cannot read the ${field} file "${path}": ${why}`, {
        hint: `Check the field "${field}" of the context, and who may read the file`,
        cause,
      });
    }
  };
}

/** Resolves a field whose bare value is the value itself (`token`, `password`, `user_jwt`, `user_seed`). */
export function literalSecret(field: string, value: string): string {
  return resolveScheme(field, value) ?? value;
}

/** The value behind `env://` and `data:;base64,`, or undefined for a bare value and `file://`. */
function resolveScheme(field: string, value: string): string | undefined {
  const data = 'data:;base64,';
  if (value.startsWith(data)) return Buffer.from(value.slice(data.length), 'base64').toString();
  if (value.startsWith('env://')) {
    const name = value.slice('env://'.length);
    const text = process.env[name] ?? '';
    if (text !== '') return text;
    throw new ContextError(
      'CONTEXT_CREDENTIALS',
      `Cannot read the field "${field}" from $${name}: it is unset or empty`,
      {
        hint: `export ${name}=…`,
      },
    );
  }
  if (/^(?:op|nsc):\/\//.test(value)) throw unsupported(field, value);
  return undefined;
}

function unsupported(field: string, value: string): ContextError {
  const scheme = value.slice(0, value.indexOf('://') + '://'.length);
  return new ContextError(
    'CONTEXT_UNSUPPORTED',
    `Cannot use the field "${field}": values of "${scheme}" are not supported`,
    {
      hint: `Write the ${field} to a file and put its path in the context`,
    },
  );
}
