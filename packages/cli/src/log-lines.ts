import type { LogEntry } from '@nex-nix/protocol';
import type { Context } from './context.ts';

export interface PrintOptions {
  /** Lines of these workloads only; default: of all. */
  ids?: readonly string[];
  /** Put the workload's id before each line. */
  withId: boolean;
  /** Put the time before each line. */
  timestamps?: boolean;
}

/** Prints what workloads print, or for `--json` a document a line, until the entries end; resolves with nothing. */
export async function printLines(
  { globals }: Context,
  entries: AsyncIterable<LogEntry & { readonly time?: Date | undefined }>,
  { ids, withId, timestamps = false }: PrintOptions,
): Promise<undefined> {
  for await (const { workloadId, stream, data, time } of entries) {
    if (ids !== undefined && !ids.includes(workloadId)) continue;
    const line = Buffer.from(data).toString();
    const at = time?.toISOString();
    if (globals.json === true) {
      write(JSON.stringify({ workload: workloadId, stream, ...(at === undefined ? {} : { time: at }), line }));
    } else {
      const before = [...(timestamps ? [at ?? new Date().toISOString()] : []), ...(withId ? [workloadId] : [])];
      write([...before, line].join(' '));
    }
  }
  return undefined;
}

/** Nexlets of Go send pieces that may or may not end a line. */
function write(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}
