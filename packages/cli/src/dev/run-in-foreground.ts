import type { DevServicesOptions } from '@nex-nix/devenv';
import type { Context } from '../context.ts';
import { failedReport, reportBack } from './background.ts';
import { runDevServices } from './run-dev-services.ts';
import { canView, linesShow, quietShow, type Show, viewShow } from './show.ts';
import { orderlyEnd } from './orderly-end.ts';

export interface InForegroundOptions {
  readonly start: DevServicesOptions;
  /** Whether the terminal view is wanted, where there can be one. */
  readonly view: boolean;
  /** Whether a parent process waits to be told what becomes of it: then nothing is shown. */
  readonly reportsBack: boolean;
}

/** Runs dev services and shows them, until the user quits, a signal arrives, or nobody looks any more. */
export async function runInForeground(
  context: Context,
  { start, view, reportsBack }: InForegroundOptions,
): Promise<void> {
  const quit = new AbortController();
  using gone = orderlyEnd();
  const signal = AbortSignal.any([context.signal, quit.signal, gone.signal]);
  const isView = !reportsBack && view && context.globals.json !== true && canView();
  let show: Show;
  if (reportsBack) show = quietShow;
  else show = isView ? viewShow(() => quit.abort()) : linesShow(context);
  let failedLines: string[] = [];
  try {
    await runDevServices({
      start,
      show,
      signal,
      onReady: (status) => (reportsBack ? reportBack({ type: 'ready', status }) : undefined),
      onFailed: (lines) => (failedLines = lines),
    });
  } catch (error) {
    if (gone.signal.aborted || (quit.signal.aborted && (error as Error).name === 'AbortError')) return;
    if (reportsBack) await reportBack(failedReport(error, failedLines));
    // The view took them with it.
    if (isView && failedLines.length > 0) context.say(failedLines.join('\n'));
    throw error;
  } finally {
    if (gone.exitCode !== undefined) process.exitCode = gone.exitCode;
  }
}
