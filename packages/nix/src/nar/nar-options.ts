import type { SignalOptions } from '../abortable.ts';

/** How a NAR is handed out. */
export interface NarOptions extends SignalOptions {
  /**
   * A chunk may change as soon as the next one is asked for, so that a large NAR makes no garbage: faster, and in less memory, for
   * whoever is done with each chunk by then. Where a source has no use for it, nothing changes. @default false
   */
  reuseChunks?: boolean | undefined;
}
