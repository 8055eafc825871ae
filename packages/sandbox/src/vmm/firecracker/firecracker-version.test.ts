import { describe, expect, it } from 'vitest';
import { featuresOf, isAtLeast, parseVersion } from './firecracker-version.ts';

describe('versions of Firecracker', () => {
  it('are read from the API and from the command line', () => {
    expect(parseVersion('1.16.1')).toEqual([1, 16, 1]);
    expect(parseVersion('1.17.0-dev')).toEqual([1, 17, 0]);
    expect(parseVersion('Firecracker v1.5.0\n\nSupported snapshot data format versions: 0.23.0')).toEqual([1, 5, 0]);
    for (const text of ['', '1.16', 'v1.16.1', 'Firecracker', '1.16.1x', 'x Firecracker v1.5.0']) {
      expect(parseVersion(text), text).toBeUndefined();
    }
  });

  it('are compared by number', () => {
    expect(isAtLeast([1, 10, 0], [1, 9])).toBe(true);
    expect(isAtLeast([1, 5, 0], [1, 5, 0])).toBe(true);
    expect(isAtLeast([1, 5, 0], [1, 5, 1])).toBe(false);
    expect(isAtLeast([2, 0, 0], [1, 16, 1])).toBe(true);
    expect(isAtLeast([0, 25, 2], [1, 5, 0])).toBe(false);
  });

  it('differ in what they can', () => {
    expect(featuresOf([1, 11, 0])).toEqual({ consoleLimit: false, networkOverrides: false });
    expect(featuresOf([1, 12, 0])).toEqual({ consoleLimit: false, networkOverrides: true });
    expect(featuresOf([1, 16, 0])).toEqual({ consoleLimit: true, networkOverrides: true });
  });
});
