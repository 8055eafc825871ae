import { CliError } from './cli-error.ts';

const BYTES: Readonly<Record<string, number>> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };

const MILLISECONDS: Readonly<Record<string, number>> = {
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 7 * 86_400_000,
};

/** `10GiB` → bytes. */
export function parseBytes(text: string): number {
  return parseAmount(text, BYTES, { what: 'a size', example: '10GiB' });
}

/** `30d` → milliseconds. */
export function parseAge(text: string): number {
  return parseAmount(text, MILLISECONDS, { what: 'an age', example: '30d' });
}

/** `1m30s`, `250ms`, `2h` → milliseconds; amounts with units, written one after the other as Go has them. */
export function parseDuration(text: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhdw])/gy)];
  const length = parts.reduce((sum, [part]) => sum + part.length, 0);
  const ms = parts.reduce((sum, [, amount, unit = '']) => {
    return sum + Number(amount) * (unit === 'ms' ? 1 : (MILLISECONDS[unit] ?? NaN));
  }, 0);
  if (text !== '' && length === text.length && Number.isSafeInteger(Math.round(ms))) return Math.round(ms);
  throw new CliError('CLI_USAGE', `Cannot take "${text}" for a duration: write numbers with units, for example 1m30s`, {
    hint: 'Units: ms, s, m, h, d, w',
  });
}

/** `10m`: that long ago; or a time as RFC 3339 has it. */
export function parseSince(text: string): Date {
  if (/^\d{4}-\d\d-\d\d/.test(text) && !Number.isNaN(Date.parse(text))) return new Date(text);
  if (/^[\d.]+(ms|[smhdw])/.test(text)) return new Date(Date.now() - parseDuration(text));
  throw new CliError('CLI_USAGE', `Cannot take "${text}" for a time: write how long ago, or a time`, {
    hint: 'For example 10m, 1h30m or 2026-01-31T12:00:00Z',
  });
}

/** How long ago something was, in the largest unit that fits: `3h ago`. */
export function formatAgo(time: Date, now = Date.now()): string {
  const ms = now - time.getTime();
  const [unit, length] =
    Object.entries(MILLISECONDS)
      .reverse()
      .find(([, one]) => ms >= one) ?? [];
  return length === undefined ? 'just now' : `${Math.floor(ms / length)}${unit} ago`;
}

/** 600000 → `10m`: the largest unit that leaves nothing over, as {@link parseAge} reads it. */
export function formatAge(ms: number): string {
  const units = Object.entries(MILLISECONDS).reverse();
  const [unit, length] = units.find(([, length]) => ms >= length && ms % length === 0) ?? ['s', 1000];
  return `${ms / length}${unit}`;
}

function parseAmount(
  text: string,
  units: Readonly<Record<string, number>>,
  { what, example }: { what: string; example: string },
): number {
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?)([A-Za-z]+)$/.exec(text) ?? [];
  const amount = Math.round(Number(number) * (Object.hasOwn(units, unit) ? (units[unit] ?? NaN) : NaN));
  if (number !== '' && Number.isSafeInteger(amount)) return amount;
  const known = Object.keys(units).join(', ');
  throw new CliError(
    'CLI_USAGE',
    `Cannot take "${text}" for ${what}: write a number and a unit, for example ${example}`,
    {
      hint: `Units: ${known}`,
    },
  );
}
