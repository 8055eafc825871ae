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
