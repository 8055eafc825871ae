import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { wasUp } from './run.ts';
import { type WorkloadRecord, WorkloadRecords } from './workload-record.ts';

const REQUEST = {
  description: '',
  name: 'web',
  namespace: 'default',
  run_request: '{}',
  tags: {},
  workload_lifecycle: 'service',
  workload_type: 'nix',
} as const;
const SANDBOX = { version: 1, runtime: 'oci', id: 'w', instance: 'i', created: '2026-05-01T10:00:00.000Z' } as const;
const OLD = { version: 1, id: 'w', request: REQUEST, startTime: '2026-05-01T10:00:00.000Z', sandbox: SANDBOX } as const;
const LAST = { state: 'error', time: '2026-05-01T10:00:01.000Z', error: { code: '1', message: 'it ended' } } as const;
const HISTORY = { restarts: 1, failures: 1, quickEnds: 1 };

describe('WorkloadRecords', () => {
  it('keeps what decides about the next run', async () => {
    await using dir = await tempDir();
    const records = await WorkloadRecords.open(dir.path);
    const { sandbox: _, ...between } = OLD;
    const record = { ...between, restart: { history: HISTORY, last: LAST, next: '2026-05-01T10:00:02.000Z' } };
    await records.save(record);
    expect(await records.all()).toEqual({ records: [record], unreadable: [] });
    await records.remove('w');
    expect(await records.all()).toEqual({ records: [], unreadable: [] });
  });

  it('reads what earlier versions wrote, which had told that it runs once there was a position', async () => {
    await using dir = await tempDir();
    const records = await WorkloadRecords.open(dir.path);
    const told = { ...OLD, logPosition: { stdout: 3, stderr: 0 } };
    await writeFile(join(dir.path, 'w.json'), JSON.stringify(told));
    const { records: found } = await records.all();
    expect(found).toEqual([told]);
    const cases: Partial<WorkloadRecord>[] = [told, OLD, { ...told, up: false }];
    expect(cases.map(wasUp)).toEqual([true, false, false]);
  });

  it('takes the later of two positions, and the bookmark of no other run', async () => {
    await using dir = await tempDir();
    const records = await WorkloadRecords.open(dir.path);
    await records.save({ ...OLD, logPosition: { stdout: 3, stderr: 9 } });
    const foundAfter = async (run: string) => {
      using bookmark = records.bookmark('w', run);
      bookmark.write({ stdout: 7, stderr: 5 });
      return (await records.all()).records[0]?.logPosition;
    };
    expect(await foundAfter('i')).toEqual({ stdout: 7, stderr: 9 });
    expect(await foundAfter('other')).toEqual({ stdout: 3, stderr: 9 });
    await records.remove('w');
    expect(await readdir(dir.path)).toEqual([]);
  });

  it('clears away the bookmark of what has no record', async () => {
    await using dir = await tempDir();
    const records = await WorkloadRecords.open(dir.path);
    using bookmark = records.bookmark('w', 'i');
    bookmark.write({ stdout: 7, stderr: 5 });
    expect(await records.all()).toEqual({ records: [], unreadable: [] });
    expect(await readdir(dir.path)).toEqual([]);
  });

  it.each([
    ['a count that is none', { ...OLD, restart: { history: { ...HISTORY, failures: 'many' }, last: LAST } }],
    ['no end of the last run', { ...OLD, restart: { history: HISTORY } }],
    ['a time that is none', { ...OLD, restart: { history: HISTORY, last: LAST, next: 'soon' } }],
    ['neither sandbox nor end nor a run to come', { ...OLD, sandbox: undefined }],
  ])('sets aside a record with %s', async (_, record) => {
    await using dir = await tempDir();
    const records = await WorkloadRecords.open(dir.path);
    await writeFile(join(dir.path, 'w.json'), JSON.stringify(record));
    const { records: found, unreadable } = await records.all();
    expect(found).toEqual([]);
    expect(unreadable).toMatchObject([{ code: 'NIX_NEXLET_RECORD_UNREADABLE' }]);
    expect(await readdir(dir.path)).toEqual(['w.json.unreadable']);
  });
});
