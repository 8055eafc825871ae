import { describe, expect, it } from 'vitest';
import { parseRecord } from './sandbox-folder.ts';

describe('parseRecord()', () => {
  const record = { version: 1, runtime: 'oci', id: 'w1', instance: 'i', created: '2026-01-01T00:00:00.000Z' };

  it('gives back what was written, without what it does not know', () => {
    expect(parseRecord(JSON.stringify({ ...record, more: 1 }), 'oci')).toEqual(record);
  });

  it.each([
    ['another version', { version: 2 }],
    ['another runtime', { runtime: 'microvm' }],
    ['an id that leaves the folder', { id: '../../etc' }],
    ['no instance', { instance: undefined }],
  ])('refuses %s', (_, change) => {
    expect(parseRecord(JSON.stringify({ ...record, ...change }), 'oci')).toBeUndefined();
  });

  it('refuses what is no JSON object', () => {
    expect(parseRecord('{', 'oci')).toBeUndefined();
    expect(parseRecord('null', 'oci')).toBeUndefined();
  });
});
