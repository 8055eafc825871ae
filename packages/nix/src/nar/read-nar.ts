import { abortable } from '../abortable.ts';
import { NarParser, type NarParserOptions, type NarVisitor } from './nar-parser.ts';
import type { SignalOptions } from '../abortable.ts';

/**
 * One step through a NAR, depth first. `name` is empty for the root.
 *
 * A `file` is followed by its contents as zero or more `data`, then by `file-end`.
 */
export type NarEvent =
  | { readonly type: 'directory'; readonly name: Buffer }
  | { readonly type: 'directory-end' }
  | { readonly type: 'symlink'; readonly name: Buffer; readonly target: Buffer }
  | {
      readonly type: 'file';
      readonly name: Buffer;
      readonly executable: boolean;
      readonly size: number;
      /** Where the contents begin, in bytes from the start of the NAR. */
      readonly offset: number;
    }
  | { readonly type: 'data'; readonly bytes: Buffer }
  | { readonly type: 'file-end' };

/**
 * The content of an uncompressed NAR, in constant memory. Accepts only what Nix itself would write.
 *
 * @throws {@link NixError} `NIX_NAR_INVALID` with the byte offset, or `NIX_NAR_SIZE_MISMATCH` beyond `maxSize`.
 */
export async function* readNar(
  source: AsyncIterable<Uint8Array>,
  options: NarParserOptions & SignalOptions = {},
): AsyncGenerator<NarEvent, void> {
  let events: NarEvent[] = [];
  const visitor: NarVisitor = {
    directory: (name) => void events.push({ type: 'directory', name }),
    directoryEnd: () => void events.push({ type: 'directory-end' }),
    symlink: (name, target) => void events.push({ type: 'symlink', name, target }),
    file: (name, file) => void events.push({ type: 'file', name, ...file }),
    data: (bytes) => void events.push({ type: 'data', bytes }),
    fileEnd: () => void events.push({ type: 'file-end' }),
  };
  const parser = new NarParser(visitor, options);
  for await (const chunk of abortable(source, options.signal)) {
    parser.write(chunk);
    yield* events;
    events = [];
  }
  parser.end();
}
