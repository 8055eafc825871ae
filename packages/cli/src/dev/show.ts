import type { DevControls, DevStatus } from '@nex-nix/devenv';
import type { Context } from '../context.ts';
import { printEntries, printLine } from './log-printer.ts';
import { paintFor } from './service-style.ts';
import { farewell, usage } from './summary.ts';
import { View } from './view.ts';

/** How dev services are shown while they run in the foreground. Disposed of when they have ended. */
export interface Show extends AsyncDisposable {
  /** There is something to be seen: the services are about to start. */
  open(controls: DevControls): void;
  /** All are ready. */
  ready(status: DevStatus): Promise<void>;
  /** They are about to be stopped. */
  stopping(): void;
}

/** Whether there is a terminal that a view can be drawn on, and that keys come from. */
export function canView(): boolean {
  return process.stdin.isTTY && process.stdout.isTTY && !['dumb', ''].includes(process.env['TERM'] ?? '');
}

/** Nothing at all: for a process in the background, whose log is in the data folder. */
export const quietShow: Show = {
  open: () => undefined,
  ready: () => Promise.resolve(),
  stopping: () => undefined,
  [Symbol.asyncDispose]: () => Promise.resolve(),
};

/** The terminal view. What has become of the services stays on the normal screen. */
export function viewShow(onQuit: () => void): Show {
  let controls: DevControls | undefined;
  let view: View | undefined;
  const paint = paintFor(process.stdout);
  return {
    open(opened) {
      controls = opened;
      view = new View(opened, { stdin: process.stdin, stdout: process.stdout, paint, use: usage, onQuit });
    },
    ready: () => Promise.resolve(),
    stopping: () => view?.quit(),
    async [Symbol.asyncDispose]() {
      await view?.[Symbol.asyncDispose]();
      if (controls !== undefined) process.stdout.write(`${farewell(await controls.status(), paint)}\n`);
    },
  };
}

/** The merged log on stdout, the rest on stderr; with `--json`, an object a line on stdout. */
export function linesShow(context: Context): Show {
  const json = context.globals.json === true;
  let printing: Promise<unknown> = Promise.resolve();
  return {
    open(controls) {
      printing = printEntries(controls.logs({ tail: 0, follow: true }), { json });
      // Looked at in the end.
      printing.catch(() => undefined);
    },
    async ready(status) {
      if (json) await printLine(JSON.stringify(status));
      context.say([...usage(status), 'Ctrl-C stops it'].join('\n'));
    },
    stopping: () => context.say('Stopping …'),
    async [Symbol.asyncDispose]() {
      // The log has ended with the services: what is left of it is printed still.
      await printing;
    },
  };
}
