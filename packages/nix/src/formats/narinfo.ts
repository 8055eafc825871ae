import { type NarHash, parseNarHash } from './hash.ts';
import { NixError } from '../nix-error.ts';
import { type NarInfo, sortPaths } from './path-info.ts';
import { parseSignature } from './signing-key.ts';
import { parseStorePath, storePathBaseName, storePathFromBaseName } from './store-path.ts';

const KNOWN = new Set(
  'StorePath URL Compression FileHash FileSize NarHash NarSize References Deriver Sig CA'.split(' '),
);

/**
 * Parses a `.narinfo` file. Strict: each field once (`Sig` aside), each value well formed, LF after each line.
 * A missing `Compression` means `bzip2`, as in Nix.
 *
 * @param origin where the text comes from, for the error.
 * @throws {@link NixError} `NIX_NARINFO_INVALID`.
 */
export function parseNarInfo(text: string, origin = 'narinfo'): NarInfo {
  const invalid = (why: string, cause?: unknown) =>
    new NixError('NIX_NARINFO_INVALID', `Cannot parse the narinfo "${origin}": ${why}`, { cause });
  const { single, signatures, extraFields } = readFields(text, invalid);
  const field = <T>(key: string, parse: (value: string) => T): T | undefined => {
    const value = single.get(key);
    if (value === undefined) return undefined;
    try {
      return parse(value);
    } catch (error) {
      if (error instanceof NixError) throw invalid(`${key} is malformed: ${error.message}`, error);
      throw error;
    }
  };
  const required = <T>(key: string, parse: (value: string) => T): T => {
    const value = field(key, parse);
    if (value === undefined) throw invalid(`${key} is missing`);
    return value;
  };
  const optional = <K extends string, T>(name: K, value: T | undefined) =>
    (value === undefined ? {} : { [name]: value }) as { [P in K]?: T };

  for (const signature of signatures) {
    if (parseSignature(signature) === undefined) throw invalid(`Sig is malformed: ${JSON.stringify(signature)}`);
  }
  return {
    storePath: required('StorePath', parseStorePath),
    url: required('URL', (value) => parseText(value, 'URL')),
    compression: single.get('Compression') || 'bzip2',
    ...optional('fileHash', field<NarHash>('FileHash', parseNarHash)),
    ...optional(
      'fileSize',
      field('FileSize', (value) => parseSize(value, 0)),
    ),
    narHash: required('NarHash', parseNarHash),
    narSize: required('NarSize', (value) => parseSize(value, 1)),
    references: field('References', parseReferences) ?? [],
    ...optional('deriver', field('Deriver', parseDeriver)),
    signatures: [...new Set(signatures)].sort(),
    ...optional(
      'ca',
      field('CA', (value) => parseText(value, 'CA')),
    ),
    ...optional('extraFields', extraFields.length === 0 ? undefined : extraFields),
  };
}

/**
 * The text of a `.narinfo` file, byte for byte as Nix writes it. Unknown fields stand before the signatures.
 *
 * @throws {@link NixError} `NIX_NARINFO_INVALID` when a value would break out of its line.
 */
export function formatNarInfo(info: NarInfo): string {
  const lines: [string, string | number | undefined][] = [
    ['StorePath', info.storePath],
    ['URL', info.url],
    ['Compression', info.compression],
    ['FileHash', info.fileHash],
    ['FileSize', info.fileSize],
    ['NarHash', info.narHash],
    ['NarSize', info.narSize],
    ['References', sortPaths(info.references).map(storePathBaseName).join(' ')],
    ['Deriver', info.deriver === undefined ? undefined : storePathBaseName(parseStorePath(info.deriver))],
    ...(info.extraFields ?? []).map(([key, value]): [string, string] => [key, value]),
    ...[...new Set(info.signatures)].sort().map((signature): [string, string] => ['Sig', signature]),
    ['CA', info.ca],
  ];
  return lines
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => {
      if (/[\r\n]/.test(`${key}${value}`)) {
        throw new NixError(
          'NIX_NARINFO_INVALID',
          `Cannot write the narinfo of "${info.storePath}": ${key} has a line break`,
        );
      }
      return `${key}: ${value}\n`;
    })
    .join('');
}

type Invalid = (why: string) => NixError;

function readFields(text: string, invalid: Invalid) {
  const single = new Map<string, string>();
  const signatures: string[] = [];
  const extraFields: [string, string][] = [];
  if (!text.endsWith('\n')) throw invalid('its last line does not end');
  for (const [index, line] of text.slice(0, -1).split('\n').entries()) {
    const match = /^([^:]+): (.*)$/s.exec(line);
    const [, key, value] = match ?? [];
    if (key === undefined || value === undefined) throw invalid(`line ${index + 1} is not "<key>: <value>"`);
    // eslint-disable-next-line no-control-regex -- a control character in a narinfo is exactly what is looked for
    if (/[\x00-\x1f\x7f]/.test(line)) throw invalid(`line ${index + 1} has a control character`);
    if (key === 'Sig') signatures.push(value);
    else if (!KNOWN.has(key)) extraFields.push([key, value]);
    else if (single.has(key)) throw invalid(`${key} appears twice`);
    else single.set(key, value);
  }
  return { single, signatures, extraFields };
}

function parseReferences(value: string) {
  return value === '' ? [] : sortPaths(value.split(' ').map(storePathFromBaseName));
}

function parseDeriver(value: string): string | undefined {
  return value === 'unknown-deriver' ? undefined : storePathFromBaseName(value);
}

function parseSize(value: string, minimum: number): number {
  const size = Number(value);
  if (/^(0|[1-9][0-9]*)$/.test(value) && Number.isSafeInteger(size) && size >= minimum) return size;
  throw malformed(`"${value}" is not a size`);
}

function parseText(value: string, key: string): string {
  if (value === '') throw malformed(`${key} is empty`);
  return value;
}

function malformed(message: string): NixError {
  return new NixError('NIX_NARINFO_INVALID', message);
}
