// Whether a command printed what a page shows, whatever differs from run to run.

/** Stands for any text in a line; alone in a line, for any lines. */
const ELLIPSIS = '…';

/** Lines about work that is under way: how many there are is chance, so they are not compared. */
const PROGRESS = /^(?:Pushing|Pulling|progressing|removing): /;

/** What differs from run to run and from machine to machine, and what it is taken for. */
const VARYING: readonly [RegExp, string][] = [
  // oxlint-disable-next-line no-control-regex -- colours
  [/\x1b\[[0-9;]*m/g, ''],
  [/eyJ[\w-]+(?:\.[\w-]+)*/g, '‹jwt›'],
  [/\b[NAOUXSC][A-Z2-7]{55}\b/g, '‹nkey›'],
  [/[A-Za-z0-9+/]{86}==|[A-Za-z0-9+/]{43}=/g, '‹key›'],
  [/\bsha256:[0-9a-z]{52}\b/g, '‹hash›'],
  [/\b[0-9abcdfghijklmnpqrsvwxyz]{32}\b/g, '‹hash›'],
  [/\b[0-9A-Za-z]{22}\b/g, '‹id›'],
  [/^\[\d+\] (?=\d)/, '[‹n›] '],
  [/\b\d{4}[-/]\d\d[-/]\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z\b| ?[+-]\d\d:?\d\d\b)?/g, '‹time›'],
  [/\b\d\d:\d\d:\d\d(?:\.\d+)?\b/g, '‹time›'],
  [/\b(?:\d+[dhm])*\d+(?:\.\d+)? ?(?:ns|µs|ms|s|m|h)\b/g, '‹duration›'],
  [/‹duration› ago|\bjust now\b/g, '‹when›'],
  [/\b\d+(?:\.\d+)? ?(?:[KMGT]i?B|B|bytes)\b/g, '‹size›'],
  [/\b\d+ (chunks?|paths?|files?)\b/g, '‹n› $1'],
  [/"(?:pid|time)":\d+/g, '‹n›'],
  [/\b(process|pid) \d+/g, '$1 ‹n›'],
  // Tables are as wide as what is in them.
  [/[─━]+/g, '─'],
  [/ +/g, ' '],
  [/ +$/g, ''],
];

/** A line with all that may vary taken out. */
export function mask(line: string): string {
  return VARYING.reduce((text, [pattern, by]) => text.replace(pattern, by), line);
}

/**
 * Where what a command printed is not what the page shows: the first line of the page that is not found, empty when there is
 * more than it shows; undefined when all is as shown.
 */
export function firstDifference(shown: readonly string[], printed: readonly string[]): string | undefined {
  const wanted = shown.filter(isCompared).map(mask);
  const got = printed.filter(isCompared).map(mask);
  let furthest = 0;
  const matches = (i: number, j: number): boolean => {
    furthest = Math.max(furthest, i);
    const line = wanted[i];
    if (line === undefined) return j === got.length;
    if (line === ELLIPSIS)
      return Array.from({ length: got.length - j + 1 }, (_, n) => j + n).some((k) => matches(i + 1, k));
    const found = got[j];
    return found !== undefined && lineMatches(line, found) && matches(i + 1, j + 1);
  };
  return matches(0, 0) ? undefined : (shown.filter(isCompared)[furthest] ?? '');
}

function isCompared(line: string): boolean {
  return !PROGRESS.test(line);
}

/** Whether all that is shown has been printed, in this order, perhaps among other lines. */
export function hasShown(shown: readonly string[], printed: readonly string[]): boolean {
  return firstDifference([...shown.flatMap((line) => [ELLIPSIS, line]), ELLIPSIS], printed) === undefined;
}

function lineMatches(wanted: string, found: string): boolean {
  if (!wanted.includes(ELLIPSIS)) return wanted === found;
  const pattern = wanted.split(ELLIPSIS).map((text) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
  return new RegExp(`^${pattern.join('.*')}$`).test(found);
}
