import { styleText } from 'node:util';
import type { DevLogEntry, ServiceName, ServiceState, ServiceStatus } from '@nex-nix/devenv';
import { clip, plainText } from './terminal-text.ts';

export type Colour = 'red' | 'green' | 'yellow' | 'blue' | 'magenta' | 'cyan' | 'gray' | 'bold' | 'inverse';

/** Puts colour on a text, or does not. */
export type Paint = (colour: Colour, text: string) => string;

export const noColour: Paint = (_colour, text) => text;
export const inColour: Paint = (colour, text) => styleText(colour, text, { validateStream: false });

/** Colours where the stream takes them: a terminal, unless `NO_COLOR` says otherwise. */
export function paintFor(stream: NodeJS.WritableStream): Paint {
  return (colour, text) => styleText(colour, text, { stream });
}

const SERVICE_COLOURS = {
  nats: 'cyan',
  accounts: 'blue',
  cache: 'magenta',
  node: 'green',
} as const satisfies Record<ServiceName, Colour>;

const STATE_COLOURS = {
  waiting: 'gray',
  starting: 'yellow',
  ready: 'green',
  done: 'green',
  restarting: 'yellow',
  failed: 'red',
  stopping: 'yellow',
  stopped: 'gray',
} as const satisfies Record<ServiceState, Colour>;

/** Columns of the longest name. */
const NAME_COLUMNS = 8;

/** Of a service of a later version, too: what runs may be newer than what looks at it. */
function colourOfService(name: ServiceName): Colour {
  return (SERVICE_COLOURS as Partial<Record<string, Colour>>)[name] ?? 'gray';
}

export function colourOfState(state: ServiceState): Colour {
  return (STATE_COLOURS as Partial<Record<string, Colour>>)[state] ?? 'gray';
}

/** Whether it is what it is meant to become. */
export function isUp({ state }: Pick<ServiceStatus, 'state'>): boolean {
  return state === 'ready' || state === 'done';
}

/** Whether nothing of it runs any more. */
export function isDown({ state }: ServiceStatus): boolean {
  return state === 'stopped' || state === 'failed' || state === 'done';
}

/**
 * `12:00:01 nats     │ Server is ready`: time of this machine, service, text without anything that acts on a terminal.
 *
 * @param columns how long it may become.
 */
export function logLine(
  { time, service, source, text }: DevLogEntry,
  paint: Paint,
  columns: number = Number.POSITIVE_INFINITY,
): string {
  const clock = new Date(time).toLocaleTimeString('en-GB');
  const name = `${plainText(service).padEnd(NAME_COLUMNS)} │`;
  const shown = plainText(text);
  const left = columns - clock.length - name.length - 2;
  // Coloured in parts that are cut before: a colour that is cut has no end.
  if (left < 1) return clip(`${clock} ${name} ${shown}`, columns);
  const cut = clip(shown, left);
  return `${paint('gray', clock)} ${paint(colourOfService(service), name)} ${source === 'supervisor' ? paint('bold', cut) : cut}`;
}
