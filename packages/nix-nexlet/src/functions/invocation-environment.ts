import { NixNexletError } from '../nix-nexlet-error.ts';

/** Bytes of all headers of one message, names included: the kernel gives a program 2 MiB, its other variables included. */
const MAX_HEADERS = 64 * 1024;

const PREFIX = 'NEX_TRIGGER_HEADER_';

/**
 * What a function is told of the message beside its payload, in variables: `NEX_TRIGGER_SUBJECT`, and for each header
 * `NEX_TRIGGER_HEADER_<NAME>`, its name in upper case with `_` for everything but letters and digits; the values of
 * headers that have one name then are lines. NUL characters are left out, since no variable can have one.
 *
 * @throws {NixNexletError} NIX_NEXLET_INVOCATION_REFUSED when the headers are too large
 */
export function invocationEnvironment(
  subject: string,
  headers: ReadonlyMap<string, readonly string[]>,
): Record<string, string> {
  const size = [...headers]
    .flatMap(([name, values]) => values.map((value) => Buffer.byteLength(name) + Buffer.byteLength(value)))
    .reduce((sum, length) => sum + length, 0);
  if (size > MAX_HEADERS) {
    const message = `its headers have ${size} bytes, more than the ${MAX_HEADERS} that a function is given`;
    throw new NixNexletError('NIX_NEXLET_INVOCATION_REFUSED', message);
  }
  const variables = new Map<string, readonly string[]>();
  for (const [name, values] of headers) {
    const variable = `${PREFIX}${name.toUpperCase().replaceAll(/[^A-Z0-9]/g, '_')}`;
    variables.set(variable, [...(variables.get(variable) ?? []), ...values]);
  }
  const entries = [...variables].map(([name, values]) => [name, values.join('\n').replaceAll('\0', '')] as const);
  return { NEX_TRIGGER_SUBJECT: subject, ...Object.fromEntries(entries) };
}
