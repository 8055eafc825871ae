import { once } from 'node:events';
import type { DevControls, DevServicesOptions, DevStatus } from '@nex-nix/devenv';
import { logLine, paintFor } from './service-style.ts';
import type { Show } from './show.ts';

/** Of a service that failed, lines that are shown again. */
const LAST_LINES = 10;

export interface ForegroundOptions {
  readonly start: DevServicesOptions;
  readonly show: Show;
  /** Aborted: the services are stopped. */
  readonly signal: AbortSignal;
  /** All are ready. */
  readonly onReady?: (status: DevStatus) => Promise<void> | undefined;
  /** One of them did not start: its last lines. */
  readonly onFailed?: (lines: string[]) => void;
}

/** Runs dev services until the signal is aborted; when it resolves or rejects, nothing of them runs. */
export async function runDevServices({ start, show, signal, onReady, onFailed }: ForegroundOptions): Promise<void> {
  const { DevServices } = await import('@nex-nix/devenv');
  let opened: DevControls | undefined;
  const onControls = (controls: DevControls): void => {
    opened = controls;
    show.open(controls);
  };
  await using _show = show;
  const stopping = (): void => show.stopping();
  signal.addEventListener('abort', stopping, { once: true });
  try {
    await using services = await DevServices.start({ ...start, signal, onControls });
    const status = await services.status();
    await show.ready(status);
    await onReady?.(status);
    // Another process may end them, too.
    if (!signal.aborted) await Promise.race([once(signal, 'abort'), services.ended]);
  } catch (error) {
    if (opened !== undefined && onFailed !== undefined) onFailed(await lastLines(opened));
    throw error;
  } finally {
    signal.removeEventListener('abort', stopping);
  }
}

/** The last lines of the services that have failed. */
async function lastLines(controls: DevControls): Promise<string[]> {
  const { services } = await controls.status();
  const failed = services.filter(({ state }) => state === 'failed').map(({ name }) => name);
  if (failed.length === 0) return [];
  const lines: string[] = [];
  const paint = paintFor(process.stderr);
  for await (const entry of controls.logs({ services: failed, tail: LAST_LINES })) {
    // What the supervisor says of it is in the error.
    if (entry.source !== 'supervisor') lines.push(logLine(entry, paint));
  }
  return lines;
}
