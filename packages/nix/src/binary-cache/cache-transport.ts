import type { SignalOptions } from '../abortable.ts';
import type { NarOptions } from '../nar/nar-options.ts';

/** How the files of a binary cache are read and written. */
export interface CacheTransport {
  /** The file at `url`, or undefined when there is none. The bytes must be read, or the iteration ended. */
  get(url: URL, options: NarOptions): Promise<AsyncIterable<Uint8Array> | undefined>;
  /** Whether there is a file at `url`. */
  has(url: URL, options: SignalOptions): Promise<boolean>;
  /** Makes or replaces the file at `url`, whole or not at all. */
  put(url: URL, content: UploadContent, options: SignalOptions): Promise<void>;
  /** A folder for files that {@link put} takes, near the place where they go. */
  spoolFolder(): Promise<string>;
}

/** A text, or a file on this machine that may be moved away. */
export type UploadContent = (
  | { readonly text: string }
  | {
      readonly file: string;
      /** In bytes. */
      readonly size: number;
    }
) & {
  /** MIME type. */
  readonly type: string;
};
