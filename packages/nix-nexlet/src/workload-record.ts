import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { StartWorkloadRequest } from '@nex-nix/protocol';
import type { LogPosition, SandboxRecord } from '@nex-nix/sandbox';
import { NixNexletError } from './nix-nexlet-error.ts';

/** What must survive the node so that a workload can be adopted after a restart. Never holds credentials of the node. */
export interface WorkloadRecord {
  readonly version: 1;
  readonly id: string;
  readonly request: StartWorkloadRequest;
  readonly startTime: string;
  readonly sandbox: SandboxRecord;
  /** Log lines up to here were published. */
  readonly logPosition?: LogPosition | undefined;
}

/** The records of running workloads: one JSON file each, replaced atomically, readable by the node's user only. */
export class WorkloadRecords {
  readonly #dir: string;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async open(dir: string): Promise<WorkloadRecords> {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    return new WorkloadRecords(dir);
  }

  async save(record: WorkloadRecord): Promise<void> {
    const file = join(this.#dir, `${record.id}.json`);
    const handle = await open(`${file}.tmp`, 'w', 0o600);
    try {
      await handle.writeFile(JSON.stringify(record));
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(`${file}.tmp`, file);
  }

  async remove(id: string): Promise<void> {
    await rm(join(this.#dir, `${id}.json`), { force: true });
  }

  async all(): Promise<WorkloadRecord[]> {
    const names = (await readdir(this.#dir)).filter((name) => name.endsWith('.json')).sort();
    return Promise.all(names.map((name) => this.#read(join(this.#dir, name))));
  }

  async #read(file: string): Promise<WorkloadRecord> {
    const text = await readFile(file, 'utf8');
    try {
      return JSON.parse(text) as WorkloadRecord;
    } catch (cause) {
      throw new NixNexletError(
        'NIX_NEXLET_RECORD_UNREADABLE',
        `Cannot read the workload record "${file}": it is no JSON`,
        {
          cause,
          hint: 'Remove the file; a workload it belonged to is then no longer known here',
        },
      );
    }
  }
}
