import { SandboxError } from '../../sandbox-error.ts';

/** One thing that QEMU says on its monitor: `docs/interop/qmp-spec.rst` of QEMU. */
export type QmpMessage =
  | { kind: 'greeting'; version: QemuVersion }
  | { kind: 'return'; id: number; value: unknown }
  | { kind: 'error'; id: number; class: string; description: string }
  | { kind: 'event'; event: QmpEvent };

export interface QemuVersion {
  major: number;
  minor: number;
  micro: number;
  /** What the distribution calls its build: `Debian 1:7.2+dfsg-7+deb12u18`. */
  package: string;
}

/** The events that we act on, and the names of others. */
export type QmpEvent =
  | { name: 'SHUTDOWN'; reason: string }
  | { name: 'GUEST_PANICKED' }
  | { name: 'MIGRATION'; status: string }
  /** The guest has opened or closed its end of a port. */
  | { name: 'VSERPORT_CHANGE'; port: string; open: boolean }
  | { name: 'other'; event: string };

/**
 * Reads one line. What we do not know of a message is passed over, as the specification asks; what is there has to be of
 * the right type.
 *
 * @throws SandboxError SANDBOX_VMM_FAILED
 */
export function parseQmpMessage(line: string): QmpMessage {
  const message = asObject(parseJson(line), line);
  if ('QMP' in message) {
    const { version } = asObject(message['QMP'], line);
    const { qemu, package: build } = asObject(version, line);
    const { major, minor, micro } = asObject(qemu, line);
    const numbers = { major: asNumber(major, line), minor: asNumber(minor, line), micro: asNumber(micro, line) };
    return { kind: 'greeting', version: { ...numbers, package: asString(build, line) } };
  }
  if ('event' in message) return { kind: 'event', event: parseEvent(message, line) };
  // An error without an id is about something that it could not read; we write nothing of the kind.
  const id = asNumber(message['id'], line);
  if ('return' in message) return { kind: 'return', id, value: message['return'] };
  const { class: kind, desc } = asObject(message['error'], line);
  return { kind: 'error', id, class: asString(kind, line), description: asString(desc, line) };
}

function parseEvent(message: Record<string, unknown>, line: string): QmpEvent {
  const event = asString(message['event'], line);
  if (event === 'GUEST_PANICKED') return { name: event };
  if (event !== 'SHUTDOWN' && event !== 'MIGRATION' && event !== 'VSERPORT_CHANGE') return { name: 'other', event };
  const { reason, status, id, open } = asObject(message['data'], line);
  if (event === 'SHUTDOWN') return { name: event, reason: asString(reason, line) };
  if (event === 'MIGRATION') return { name: event, status: asString(status, line) };
  return { name: event, port: asString(id, line), open: open === true };
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw notQmp(line);
  }
}

function asObject(value: unknown, line: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw notQmp(line);
  return value as Record<string, unknown>;
}

function asString(value: unknown, line: string): string {
  if (typeof value !== 'string') throw notQmp(line);
  return value;
}

function asNumber(value: unknown, line: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw notQmp(line);
  return value;
}

function notQmp(line: string): SandboxError {
  const shown = JSON.stringify(line.length > 200 ? `${line.slice(0, 200)}…` : line);
  return new SandboxError('SANDBOX_VMM_FAILED', `Cannot understand what QEMU says on its monitor: ${shown}`);
}
