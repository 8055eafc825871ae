import { parseContentAddress } from './content-address.ts';
import { type NarHash, parseNarHash } from './hash.ts';
import { NixError } from '../nix-error.ts';
import { type NarInfo, sortPaths } from './path-info.ts';
import { quoteText } from './quote-text.ts';
import { parseSignature } from './signing-key.ts';
import { parseStorePath, type StorePath, storePathBaseName, storePathFromBaseName } from './store-path.ts';

const KNOWN = new Set(
  'StorePath URL Compression FileHash FileSize NarHash NarSize References Deriver Sig CA'.split(' '),
);
// eslint-disable-next-line no-control-regex -- a control character in a narinfo is exactly what is looked for
const CONTROL = /[\x00-\x1f\x7f]/;

/** A line `<key>: <value>`; `start` is where the value begins in the text. */
interface Field {
  readonly key: string;
  readonly value: string;
  readonly line: number;
  readonly start: number;
}

/**
 * Parses a `.narinfo` file. Strict: each field once (`Sig` aside), each value well formed, LF after each line.
 * Hashes may have any form of {@link parseHash}. A missing `Compression` means `bzip2`, as in Nix. References and
 * signatures come sorted, each once. Source of the format: `nar-info.cc` of Nix.
 *
 * @param origin where the text comes from, for the error.
 * @throws {@link NixError} `NIX_NARINFO_INVALID`, which names field and line; `offset` is the place in `text`.
 */
export function parseNarInfo(text: string, origin = 'narinfo'): NarInfo {
  const invalid: Invalid = (why, { offset, cause } = {}) =>
    new NixError('NIX_NARINFO_INVALID', `Cannot parse the narinfo "${origin}": ${why}`, { offset, cause });
  const { single, signatures, extraFields } = sortFields(readFields(text, invalid), invalid);
  const parsed = <T>(field: Field, parse: (value: string) => T): T => {
    try {
      return parse(field.value);
    } catch (error) {
      if (!(error instanceof NixError)) throw error;
      const offset = field.start + (error.offset ?? 0);
      throw invalid(`line ${field.line}: ${field.key} is malformed: ${error.message}`, { offset, cause: error });
    }
  };
  const optional = <T>(key: string, parse: (value: string) => T): T | undefined => {
    const field = single.get(key);
    return field === undefined ? undefined : parsed(field, parse);
  };
  const required = <T>(key: string, parse: (value: string) => T): T => {
    const field = single.get(key);
    if (field === undefined) throw invalid(`${key} is missing`, { offset: text.length });
    return parsed(field, parse);
  };
  return withoutUndefined({
    storePath: required('StorePath', parseStorePath),
    url: required('URL', parseText),
    compression: single.get('Compression')?.value || 'bzip2',
    fileHash: optional<NarHash>('FileHash', parseNarHash),
    fileSize: optional('FileSize', (value) => parseSize(value, 0)),
    narHash: required('NarHash', parseNarHash),
    narSize: required('NarSize', (value) => parseSize(value, 1)),
    references: optional('References', parseReferences) ?? [],
    deriver: optional('Deriver', parseDeriver),
    signatures: [...new Set(signatures.map((field) => parsed(field, parseSig)))].sort(),
    ca: optional('CA', parseCa),
    extraFields: extraFields.length === 0 ? undefined : extraFields,
  });
}

/**
 * The text of a `.narinfo` file, byte for byte as Nix writes it. Unknown fields stand before the signatures.
 *
 * @throws {@link NixError} `NIX_NARINFO_INVALID` for what {@link parseNarInfo} would not read as the same again:
 *   a value that breaks out of its line, a malformed signature, an unknown field with the key of a known one.
 */
export function formatNarInfo(info: NarInfo): string {
  const extraFields = info.extraFields ?? [];
  const lines: (readonly [string, string | number | undefined])[] = [
    ['StorePath', info.storePath],
    ['URL', info.url],
    ['Compression', info.compression],
    ['FileHash', info.fileHash],
    ['FileSize', info.fileSize],
    ['NarHash', info.narHash],
    ['NarSize', info.narSize],
    ['References', sortPaths(info.references).map(storePathBaseName).join(' ')],
    ['Deriver', info.deriver === undefined ? undefined : storePathBaseName(parseStorePath(info.deriver))],
    ...extraFields,
    ...[...new Set(info.signatures)].sort().map((signature) => ['Sig', signature] as const),
    ['CA', info.ca],
  ];
  const invalid = (why: string) =>
    new NixError('NIX_NARINFO_INVALID', `Cannot write the narinfo of "${info.storePath}": ${why}`);
  for (const signature of info.signatures) {
    if (parseSignature(signature) === undefined) throw invalid(`Sig is malformed: ${quoteText(signature)}`);
  }
  for (const [key] of extraFields) {
    if (key === '' || key.includes(':') || KNOWN.has(key)) throw invalid(`${quoteText(key)} is no unknown field`);
  }
  return lines
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => {
      if (CONTROL.test(`${key}${value}`)) throw invalid(`${key} has a line break or another control character`);
      return `${key}: ${value}\n`;
    })
    .join('');
}

type Invalid = (why: string, options?: { offset?: number; cause?: unknown }) => NixError;

function* readFields(text: string, invalid: Invalid): Generator<Field, void> {
  let start = 0;
  for (let line = 1; start < text.length || line === 1; line++) {
    const end = text.indexOf('\n', start);
    if (end === -1) throw invalid(`line ${line}: it does not end with a line feed`, { offset: text.length });
    const content = text.slice(start, end);
    const match = /^([^:]+): (.*)$/s.exec(content);
    const [, key, value] = match ?? [];
    if (key === undefined || value === undefined) {
      throw invalid(`line ${line}: ${quoteText(content)} is not "<key>: <value>"`, { offset: start });
    }
    const control = content.search(CONTROL);
    if (control !== -1) throw invalid(`line ${line}: ${key} has a control character`, { offset: start + control });
    yield { key, value, line, start: start + key.length + 2 };
    start = end + 1;
  }
}

function sortFields(fields: Iterable<Field>, invalid: Invalid) {
  const single = new Map<string, Field>();
  const signatures: Field[] = [];
  const extraFields: [string, string][] = [];
  for (const field of fields) {
    const { key, value, line, start } = field;
    const earlier = single.get(key);
    if (earlier !== undefined) {
      throw invalid(`line ${line}: ${key} appears twice, first in line ${earlier.line}`, { offset: start });
    }
    if (key === 'Sig') signatures.push(field);
    else if (KNOWN.has(key)) single.set(key, field);
    else extraFields.push([key, value]);
  }
  return { single, signatures, extraFields };
}

function parseReferences(value: string): StorePath[] {
  if (value === '') return [];
  let next = 0;
  const paths = value.split(' ').map((base) => {
    const start = next;
    next += base.length + 1;
    try {
      return storePathFromBaseName(base);
    } catch (error) {
      if (!(error instanceof NixError)) throw error;
      throw malformed(error.message, start + (error.offset ?? 0));
    }
  });
  return sortPaths(paths);
}

function parseDeriver(value: string): string | undefined {
  return value === 'unknown-deriver' ? undefined : storePathFromBaseName(value);
}

function parseSize(value: string, minimum: number): number {
  const size = Number(value);
  if (/^(0|[1-9][0-9]*)$/.test(value) && Number.isSafeInteger(size) && size >= minimum) return size;
  throw malformed(`${quoteText(value)} is not a size, expected a decimal number of bytes from ${minimum}`);
}

function parseText(value: string): string {
  if (value === '') throw malformed('it is empty');
  return value;
}

function parseSig(value: string): string {
  if (parseSignature(value) !== undefined) return value;
  throw malformed(`${quoteText(value)} is not "<key name>:<base64 of 64 bytes>"`);
}

/** As it stands: forms that this library does not know are kept, and prove nothing. */
function parseCa(value: string): string {
  parseContentAddress(parseText(value));
  return value;
}

/** The type says the same: of an absent field there is no property. */
function withoutUndefined<T extends object>(object: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;
}

function malformed(message: string, offset?: number): NixError {
  return new NixError('NIX_NARINFO_INVALID', message, { offset });
}
