const UNITS: Record<string, number> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

/** Sizes as start requests have them; a pattern of JSON Schema. */
export const SIZE = '^[0-9]+(\\.[0-9]+)?(B|KiB|MiB|GiB)$';

/** Durations as start requests have them; a pattern of JSON Schema. */
export const DURATION = '^[0-9]+(ms|s|m)$';

/** `256MiB` → bytes; undefined when it is no size, or out of all bounds. */
export function bytesOf(text: string): number | undefined {
  const [, number, unit] = /^([0-9.]+)(B|KiB|MiB|GiB)$/.exec(text) ?? [];
  const factor = UNITS[unit ?? ''];
  if (number === undefined || factor === undefined) return undefined;
  const bytes = Math.round(Number(number) * factor);
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
}

/** `10s` → milliseconds. `text` fits {@link DURATION}. */
export function millisecondsOf(text: string): number {
  const amount = Number.parseInt(text, 10);
  if (text.endsWith('ms')) return amount;
  return amount * (text.endsWith('m') ? 60_000 : 1_000);
}
