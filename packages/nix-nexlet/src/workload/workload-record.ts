import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StartWorkloadRequest } from '@nex-nix/protocol';
import type { LogPosition, SandboxRecord } from '@nex-nix/sandbox';
import { NixNexletError } from '../nix-nexlet-error.ts';
import { type LogBookmark, LogBookmarkFile, readLogBookmark } from './log-bookmark.ts';
import type { RestartHistory } from './restart-policy.ts';
import type { WorkloadEnd } from './workload-end.ts';

/** Ends the name of a bookmark; what is before it is the id. */
const BOOKMARK = '.bookmark';

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
  /**
   * Log lines up to here were published, and later ones may have been: that is in a file of its own, see
   * {@link LogBookmarkFile}. Absent until the program was seen to run.
   */
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

  /** Where it is written down how far the lines of a run were published; it goes with the record. */
  bookmark(id: string, run: string): LogBookmarkFile {
    return new LogBookmarkFile(this.#bookmarkOf(id), run);
  }

  /** One save of an id at a time. */
  async save(record: WorkloadRecord): Promise<void> {
    const file = this.#file(record.id);
    await writeFile(`${file}.tmp`, JSON.stringify(record), { mode: 0o600 });
    await rename(`${file}.tmp`, file);
  }

  async remove(id: string): Promise<void> {
    await rm(this.#file(id), { force: true });
    await this.removeBookmark(id);
  }

  async removeBookmark(id: string): Promise<void> {
    await rm(this.#bookmarkOf(id), { force: true });
  }

  async all(): Promise<FoundRecords> {
    const records: WorkloadRecord[] = [];
    const unreadable: NixNexletError[] = [];
    for (const id of await this.#ids('.json')) {
      const file = this.#file(id);
      try {
        records.push(withBookmark(parseRecord(await readFile(file, 'utf8'), id), await this.#readBookmark(id)));
      } catch (cause) {
        const aside = `${file}.unreadable`;
        await rename(file, aside);
        unreadable.push(unreadableError(file, { aside, cause }));
      }
    }
    const known = new Set(records.map(({ id }) => id));
    for (const id of await this.#ids(BOOKMARK)) if (!known.has(id)) await this.removeBookmark(id);
    return { records, unreadable };
  }

  async #ids(suffix: string): Promise<string[]> {
    const names = await readdir(this.#dir);
    return names
      .filter((name) => name.endsWith(suffix))
      .map((name) => name.slice(0, -suffix.length))
      .sort();
  }

  async #readBookmark(id: string): Promise<LogBookmark | undefined> {
    return readLogBookmark(this.#bookmarkOf(id));
  }

  #bookmarkOf(id: string): string {
    return join(this.#dir, `${id}${BOOKMARK}`);
  }

  #file(id: string): string {
    return join(this.#dir, `${id}.json`);
  }
}

/** Both were true when they were written: the later one of each stream counts. */
function withBookmark(record: WorkloadRecord, bookmark: LogBookmark | undefined): WorkloadRecord {
  if (bookmark === undefined || bookmark.run !== record.sandbox?.instance) return record;
  const { stdout, stderr } = bookmark.position;
  const { logPosition = bookmark.position } = record;
  const later = { stdout: Math.max(stdout, logPosition.stdout), stderr: Math.max(stderr, logPosition.stderr) };
  return { ...record, logPosition: later };
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
