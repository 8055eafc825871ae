import type { Context } from './context.ts';

/** How far something is. */
interface ProgressStep {
  readonly done: number;
  readonly total: number;
  /** Both for people: `12.0 MiB of 23.0 MiB, 3 of 5 paths`. */
  readonly text: string;
}

/** Shows how far something is until it is disposed of. */
export interface Progress extends Disposable {
  update(step: ProgressStep): void;
}

/** Where progress is shown. */
export interface ProgressOutput {
  /** A line that is written over; otherwise lines below each other. */
  readonly isTTY: boolean;
  readonly columns: number;
  readonly write: (text: string) => void;
}

const REDRAW_MS = 100;
const LINE_MS = 1_000;
const BAR_WIDTH = 24;
/** Of a terminal that does not say. */
const DEFAULT_COLUMNS = 80;
const CLEAR_LINE = '\r\u001B[K';

/**
 * Progress on stderr: one line with a bar that is written over on a terminal; otherwise a line a second, so that what is
 * quick says nothing; nothing with `--json`.
 * @param what - what is under way: `Pushing`.
 * @param ifInterrupted - what to know when it is interrupted, said at the end then.
 */
export function showProgress(context: Context, what: string, ifInterrupted: string): Progress {
  const progress = progressOf(context, what);
  return {
    update: (step) => progress.update(step),
    [Symbol.dispose]() {
      progress[Symbol.dispose]();
      if (context.signal.aborted) context.say(ifInterrupted);
    },
  };
}

function progressOf({ globals }: Context, what: string): Progress {
  if (globals.json === true) return { update: () => undefined, [Symbol.dispose]: () => undefined };
  const { isTTY, columns } = process.stderr;
  const write = (text: string): void => void process.stderr.write(text);
  return openProgress(what, { isTTY, columns: columns || DEFAULT_COLUMNS, write });
}

/** {@link showProgress} on any output. */
export function openProgress(
  what: string,
  output: ProgressOutput,
  now: () => number = () => performance.now(),
): Progress {
  let drawn = false;
  let last = output.isTTY ? -Infinity : now();
  return {
    update(step) {
      if (now() - last < (output.isTTY ? REDRAW_MS : LINE_MS)) return;
      last = now();
      drawn = true;
      output.write(output.isTTY ? `${CLEAR_LINE}${barLine(what, step, output.columns)}` : `${plainLine(what, step)}\n`);
    },
    [Symbol.dispose]() {
      if (output.isTTY && drawn) output.write(CLEAR_LINE);
    },
  };
}

/** A line with a bar that fits into a terminal of that width. */
function barLine(what: string, step: ProgressStep, columns: number): string {
  const filled = Math.round(fraction(step) * BAR_WIDTH);
  const bar = '━'.repeat(filled) + '─'.repeat(BAR_WIDTH - filled);
  return `${what} ${bar} ${percent(step).padStart(4)}  ${step.text}`.slice(0, Math.max(0, columns - 1));
}

function plainLine(what: string, step: ProgressStep): string {
  return `${what}: ${step.text} (${percent(step)})`;
}

function percent(step: ProgressStep): string {
  return `${Math.floor(fraction(step) * 100)}%`;
}

function fraction({ done, total }: ProgressStep): number {
  return total > 0 ? Math.min(1, done / total) : 1;
}
