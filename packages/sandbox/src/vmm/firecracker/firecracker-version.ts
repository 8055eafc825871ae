/** Of Firecracker: major, minor, patch. */
export type FirecrackerVersion = readonly [major: number, minor: number, patch: number];

/** The oldest one that this package speaks with, and the newest one whose description it was checked against. */
export const OLDEST: FirecrackerVersion = [1, 5, 0];
export const NEWEST: FirecrackerVersion = [1, 16, 1];

/** What versions differ in, as far as this package makes use of it. */
export interface FirecrackerFeatures {
  /** Console output can be limited to a rate (1.16). */
  consoleLimit: boolean;
  /** A restored VM can have a tap of another name (1.12). */
  networkOverrides: boolean;
}

/** Parses `1.16.1`, as `GET /version` has it, or `Firecracker v1.16.1`, as `--version` prints it first; undefined when it is neither. */
export function parseVersion(text: string): FirecrackerVersion | undefined {
  const match = /^(?:Firecracker v)?(\d+)\.(\d+)\.(\d+)(?:-\S+)?(?:\s|$)/.exec(text);
  return match === null ? undefined : [Number(match[1]), Number(match[2]), Number(match[3])];
}

/** Whether `version` is `wanted`, or newer. */
export function isAtLeast(version: FirecrackerVersion, wanted: readonly number[]): boolean {
  for (const [index, part] of version.entries()) {
    const other = wanted[index] ?? 0;
    if (part !== other) return part > other;
  }
  return true;
}

export function featuresOf(version: FirecrackerVersion): FirecrackerFeatures {
  return { consoleLimit: isAtLeast(version, [1, 16]), networkOverrides: isAtLeast(version, [1, 12]) };
}
