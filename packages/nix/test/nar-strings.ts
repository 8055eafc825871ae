import { narStrings } from '../src/nar/nar-format.ts';

type Strings = (string | Uint8Array)[];

/** NARs spelled out string by string, right or wrong. */
export const nar = (...strings: Strings): Buffer => narStrings('nix-archive-1', ...strings);
export const file = (contents: string | Uint8Array): Strings => ['(', 'type', 'regular', 'contents', contents, ')'];
export const link = (target: string | Uint8Array): Strings => ['(', 'type', 'symlink', 'target', target, ')'];
export const entry = (name: string | Uint8Array, node: Strings): Strings => [
  'entry',
  '(',
  'name',
  name,
  'node',
  ...node,
  ')',
];
export const folder = (...entries: Strings[]): Strings => ['(', 'type', 'directory', ...entries.flat(), ')'];
/** A file below so many folders. */
export const nested = (levels: number): Strings => (levels === 0 ? file('') : folder(entry('d', nested(levels - 1))));

/** `bytes` in chunks of `size`. */
export async function* cut(bytes: Uint8Array, size = Math.max(bytes.length, 1)): AsyncGenerator<Uint8Array, void> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
