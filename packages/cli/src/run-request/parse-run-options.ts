import { CliError } from '../cli-error.ts';
import { parsePort } from '../parse.ts';
import { parseBytes, parseDuration } from '../units.ts';

/** When a program is started again, as a start request has it. */
export interface Restart {
  policy: string;
  max_retries?: number;
}

/** How a program's health is found out, as a start request has it. */
export interface Probe {
  nats?: string;
  tcp?: number;
  http?: { port: number; path: string };
  exec?: string[];
}

const POLICIES = ['always', 'on-failure', 'never'];

/** `on-failure:5` → the policy, and after how many failures in a row it is given up. */
export function parseRestart(text: string): Restart {
  const [, policy = '', digits] = /^([a-z-]+)(?::(\d{1,9}))?$/.exec(text) ?? [];
  if (POLICIES.includes(policy)) return { policy, ...(digits === undefined ? {} : { max_retries: Number(digits) }) };
  throw unreadable(text, 'when to restart', `write ${POLICIES.join(', ')}, and after a colon how often at most`, {
    hint: 'For example on-failure:5',
  });
}

const PROBE_HINT = {
  hint: 'nats:SUBJECT, tcp:PORT, http://:PORT/PATH, or exec:PROGRAM with its arguments, the program below the store path',
};

/** `tcp:80`, `http://:80/health`, `nats:web.health`, `exec:bin/check --fast` → the check. */
export function parseProbe(text: string): Probe {
  const [, kind = '', rest = ''] = /^(nats|tcp|exec|http):(.+)$/s.exec(text) ?? [];
  const what = 'a health check';
  switch (kind) {
    case 'nats':
      if (/^[^\s.*>]+(\.[^\s.*>]+)*$/.test(rest)) return { nats: rest };
      throw unreadable(text, what, `"${rest}" is no subject to send to`, PROBE_HINT);
    case 'tcp':
      return { tcp: parseOpenPort(rest) };
    case 'http': {
      const [, port, path = '/'] = /^\/\/:(\d{1,5})(\/[!-~]*)?$/.exec(rest) ?? [];
      if (port === undefined) throw unreadable(text, what, 'write http://:PORT/PATH, without a host', PROBE_HINT);
      return { http: { port: parseOpenPort(port), path } };
    }
    case 'exec':
      return { exec: rest.split(' ').filter((word) => word !== '') };
    default:
      throw unreadable(text, what, 'it begins with none of nats:, tcp:, http: and exec:', PROBE_HINT);
  }
}

/** A port that something listens on, which 0 is not. */
export function parseOpenPort(text: string): number {
  const port = parsePort(text);
  if (port > 0) return port;
  throw unreadable(text, 'a port', 'write a whole number from 1 to 65535');
}

/** `1m30s` → `90s`: a duration as start requests have it, in one unit. */
export function parseRequestDuration(text: string): string {
  const ms = parseDuration(text);
  if (ms % 1_000 !== 0) return `${ms}ms`;
  return ms % 60_000 === 0 && ms > 0 ? `${ms / 60_000}m` : `${ms / 1_000}s`;
}

/** A size that is left as it is written. */
export function parseRequestSize(text: string): string {
  if (parseBytes(text) > 0 && !text.endsWith('TiB')) return text;
  throw unreadable(text, 'a size', 'write a number above 0 with B, KiB, MiB or GiB, for example 256MiB');
}

/** `term`, `SIGTERM` → `SIGTERM`. */
export function parseSignal(text: string): string {
  const name = text.toUpperCase();
  if (/^[A-Z][A-Z0-9]*$/.test(name)) return name.startsWith('SIG') ? name : `SIG${name}`;
  throw unreadable(text, 'a signal', 'write its name, for example SIGINT');
}

/** A subject that starts a function; it may have wildcards. */
export function parseTrigger(text: string): string {
  if (/^([^\s.*>]+|\*)(\.([^\s.*>]+|\*))*(\.>)?$/.test(text)) return text;
  throw unreadable(text, 'a trigger', 'write a subject, for example orders.created or orders.*');
}

/** Parser of a whole number within bounds. */
export function wholeNumber(what: string, { least, most }: { least: number; most: number }): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d{1,9}$/.test(text) && value >= least && value <= most) return value;
    throw unreadable(text, what, `write a whole number from ${least} to ${most}`);
  };
}

/** Parser of an option that may be given several times, each time with one value. */
export function repeated<T>(parse: (text: string) => T): (text: string, all?: T[]) => T[] {
  return (text, all = []) => [...all, parse(text)];
}

// oxlint-disable-next-line max-params -- the parts of one sentence
function unreadable(text: string, what: string, why: string, options: { hint?: string } = {}): CliError {
  return new CliError('CLI_USAGE', `Cannot take "${text}" for ${what}: ${why}`, options);
}
