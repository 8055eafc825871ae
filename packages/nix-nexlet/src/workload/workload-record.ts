import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StartWorkloadRequest } from '@nex-nix/protocol';
import type { LogPosition, SandboxRecord } from '@nex-nix/sandbox';
import { NixNexletError } from '../nix-nexlet-error.ts';
import type { RestartHistory } from './restart-policy.ts';
import type { WorkloadEnd } from './workload-end.ts';

/** What of earlier runs is kept. */
export interface RestartRecord {
  readonly history: RestartHistory;
  /** How the last one ended. */
  readonly last: WorkloadEnd;
  /** ISO 8601; present while nothing runs: when the next run is to begin. `sandbox` is that of the last one, if any. */
  readonly next?: string;
}

/**
 * What must survive the node so that a workload can be adopted after a restart, or is not started a second time. Never
 * holds credentials of the node; what is sealed in the request stays sealed.
 */
export interface WorkloadRecord {
  readonly version: 1;
  readonly id: string;
  readonly request: StartWorkloadRequest;
  /** ISO 8601. */
  readonly startTime: string;
  /** Absent only of one that ended before it had one, and of one whose next run is to come. */
  readonly sandbox?: SandboxRecord;
  /** When the program in it was started, ISO 8601; absent in records of earlier versions, and until it was. */
  readonly began?: string;
  /** Log lines up to here were published. Absent until the program was seen to run. */
  readonly logPosition?: LogPosition;
  /** Whether this run was announced; absent: when there is a position. */
  readonly up?: boolean;
  /** Absent until it was started again for the first time. */
  readonly restart?: RestartRecord;
  /** Present once it has ended. */
  readonly end?: WorkloadEnd;
}

/** What {@link WorkloadRecords.all} found. */
export interface FoundRecords {
  readonly records: readonly WorkloadRecord[];
  /** One error for each file that is no record; it was renamed out of the way. */
  readonly unreadable: readonly NixNexletError[];
}

/**
 * The records of workloads that run or may run: one JSON file each, readable by the node's user only. A file is replaced
 * as a whole, so a kill at any moment leaves the old or the new one. It is not synced to disk: when the machine dies,
 * so does what the records are about.
 */
export class WorkloadRecords {
  readonly #dir: string;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async open(dir: string): Promise<WorkloadRecords> {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    for (const name of await readdir(dir)) {
      if (name.endsWith('.tmp')) await rm(join(dir, name), { force: true });
    }
    return new WorkloadRecords(dir);
  }

  /** One save of an id at a time. */
  async save(record: WorkloadRecord): Promise<void> {
    const file = this.#file(record.id);
    await writeFile(`${file}.tmp`, JSON.stringify(record), { mode: 0o600 });
    await rename(`${file}.tmp`, file);
  }

  async remove(id: string): Promise<void> {
    await rm(this.#file(id), { force: true });
  }

  async all(): Promise<FoundRecords> {
    const records: WorkloadRecord[] = [];
    const unreadable: NixNexletError[] = [];
    for (const name of (await readdir(this.#dir)).filter((entry) => entry.endsWith('.json')).sort()) {
      const file = join(this.#dir, name);
      try {
        records.push(parseRecord(await readFile(file, 'utf8'), name.slice(0, -'.json'.length)));
      } catch (cause) {
        const aside = `${file}.unreadable`;
        await rename(file, aside);
        unreadable.push(unreadableError(file, { aside, cause }));
      }
    }
    return { records, unreadable };
  }

  #file(id: string): string {
    return join(this.#dir, `${id}.json`);
  }
}

/** Throws any error when `text` is no record of `id`. What the sandbox record holds is the runtime's business. */
function parseRecord(text: string, id: string): WorkloadRecord {
  const record = JSON.parse(text) as Partial<WorkloadRecord> | null;
  if (record?.version !== 1) throw new TypeError(`its version is ${String(record?.version)}, expected 1`);
  if (record.id !== id) throw new TypeError(`it is about "${String(record.id)}"`);
  if (Number.isNaN(Date.parse(String(record.startTime)))) throw new TypeError('its start time is no time');
  const { end, sandbox, restart } = record;
  if (restart !== undefined) checkRestart(restart);
  if (end === undefined && sandbox === undefined && restart?.next === undefined) {
    throw new TypeError('it names no sandbox');
  }
  if (end !== undefined && end.state !== 'stopped' && end.state !== 'error') throw new TypeError('its end is none');
  const request = StartWorkloadRequest.decode(JSON.stringify(record.request), id);
  return { ...(record as WorkloadRecord), request };
}

function checkRestart({ history, last, next }: Partial<RestartRecord>): void {
  const counts = [history?.restarts, history?.failures, history?.quickEnds];
  if (!counts.every((count) => Number.isSafeInteger(count))) throw new TypeError('its count of restarts is none');
  if (typeof last !== 'object') throw new TypeError('the end of its last run is none');
  if (next !== undefined && Number.isNaN(Date.parse(next))) throw new TypeError('the time of its next run is no time');
}

function unreadableError(file: string, { aside, cause }: { aside: string; cause: unknown }): NixNexletError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new NixNexletError('NIX_NEXLET_RECORD_UNREADABLE', `Cannot read the workload record "${file}": ${reason}`, {
    cause,
    hint: `The workload it belonged to is ended; the file is kept as ${aside}`,
  });
}
