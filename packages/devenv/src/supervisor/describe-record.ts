import { inspect } from 'node:util';

/** Names of the levels of pino. */
const LEVELS: Readonly<Record<number, string>> = {
  10: 'TRACE',
  20: 'DEBUG',
  30: 'INFO',
  40: 'WARN',
  50: 'ERROR',
  60: 'FATAL',
};

/** A log record that a program has printed as a line of JSON; undefined for any other line. */
export function parseRecord(line: string): Readonly<Record<string, unknown>> | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** A record of pino as one line for people: `INFO nex node ready id=N… name=dev`. */
export function describeRecord(record: Readonly<Record<string, unknown>>): string {
  // Who kept the line knows time, process and machine.
  const { level, time: _time, pid: _pid, hostname: _hostname, msg, err, ...fields } = record;
  const words = [typeof level === 'number' ? (LEVELS[level] ?? `LEVEL ${level}`) : '', textOf(msg ?? '')];
  const pairs = Object.entries(fields).map(([name, value]) => `${name}=${shown(value)}`);
  const failure = err === undefined ? [] : [`err=${shown(messageOf(err))}`];
  return [...words, ...pairs, ...failure].filter((word) => word !== '').join(' ');
}

function messageOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'message' in error ? error.message : error;
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : inspect(value, { breakLength: Infinity });
}

/** As it is where it reads as one word, otherwise in quotes. */
function shown(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
  return typeof value !== 'string' || /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text);
}
