import { ProtocolError } from '../protocol-error.ts';

const UNITS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1e3,
  m: 60e3,
  h: 3600e3,
};

/**
 * Milliseconds of a Go duration such as `1m0s`, `2h3m4.5s`, `250ms`, `1.5µs`, `-3s` or `0`.
 * Source of the format: `time.ParseDuration` of Go.
 *
 * @throws {ProtocolError} NEX_TIME_INVALID
 */
export function parseGoDuration(text: string): number {
  const [, sign = '', rest = ''] = /^([+-]?)(.*)$/s.exec(text) ?? [];
  if (rest === '0') return 0;
  let total = 0;
  let end = 0;
  for (const match of rest.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/gy)) {
    total += Number(match[1]) * (UNITS[match[2] ?? ''] ?? Number.NaN);
    end = match.index + match[0].length;
  }
  if (end === 0 || end !== rest.length) {
    throw new ProtocolError('NEX_TIME_INVALID', `Cannot read duration "${text}": it is not a number with a unit`, {
      hint: 'Write it like 90s, 1m30s, 2h or 250ms',
    });
  }
  return sign === '-' ? -total : total;
}

/** A duration of `milliseconds` as Go writes it: `1h0m5.25s`, `1m0s`, `250ms`, `1.5µs`, `0s`. */
export function formatGoDuration(milliseconds: number): string {
  const sign = milliseconds < 0 ? '-' : '';
  const nanos = Math.round(Math.abs(milliseconds) * 1e6);
  if (nanos === 0) return '0s';
  if (nanos < 1e3) return `${sign}${nanos}ns`;
  if (nanos < 1e6) return `${sign}${nanos / 1e3}µs`;
  if (nanos < 1e9) return `${sign}${nanos / 1e6}ms`;
  const minutes = Math.floor(nanos / 60e9);
  const seconds = `${(nanos - minutes * 60e9) / 1e9}s`;
  if (minutes === 0) return sign + seconds;
  return minutes < 60
    ? `${sign}${minutes}m${seconds}`
    : `${sign}${Math.floor(minutes / 60)}h${minutes % 60}m${seconds}`;
}

/** What Go writes for a time that was never set. */
export const GO_ZERO_TIME = '0001-01-01T00:00:00Z';

/**
 * A Go time: RFC 3339 with up to nine fractional digits and `Z` or an offset. Digits below a millisecond are cut off.
 *
 * @returns undefined for Go's zero time
 * @throws {ProtocolError} NEX_TIME_INVALID
 */
export function parseGoTime(text: string): Date | undefined {
  if (text === GO_ZERO_TIME) return undefined;
  const [, seconds, fraction = '', zone] =
    /^(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/.exec(text) ?? [];
  const date = new Date(`${seconds}${fraction.slice(0, 4)}${zone}`.toUpperCase());
  if (Number.isNaN(date.getTime())) {
    throw new ProtocolError('NEX_TIME_INVALID', `Cannot read time "${text}": it is not RFC 3339`);
  }
  return date;
}
