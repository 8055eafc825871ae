import type { Logger } from '@nex-nix/nexlet';
import type { SandboxRecord } from '@nex-nix/sandbox';
import type { Runtimes } from '../runtimes.ts';
import type { WorkloadParts } from './managed-workload.ts';
import { Workload } from './workload.ts';
import type { WorkloadRecord, WorkloadRecords } from './workload-record.ts';

export interface AdoptOptions {
  readonly records: WorkloadRecords;
  readonly runtimes: Runtimes;
  readonly logger: Logger;
  /** Undefined when the workload of a record cannot be kept. */
  readonly partsOf: (record: WorkloadRecord) => WorkloadParts | undefined;
  /** Called with each workload before anything of it happens. */
  readonly add: (workload: Workload) => void;
}

/**
 * Takes over what an earlier process left running, goes on with what it was about to start again, and clears away what it
 * left dead or half started.
 */
export async function adoptWorkloads(options: AdoptOptions): Promise<void> {
  const { records, runtimes, logger } = options;
  const { records: found, unreadable } = await records.all();
  for (const error of unreadable) logger.error({ err: error }, error.message);
  const present = new Set((await runtimes.list()).map(({ instance }) => instance));
  const kept = new Set<string>();
  for (const record of found) {
    const sandbox = await adopt(record, present, options);
    if (sandbox !== undefined) kept.add(sandbox.instance);
  }
  for (const sandbox of await runtimes.list()) if (!kept.has(sandbox.instance)) await clear(sandbox, runtimes);
}

/** The sandbox that goes on, if any. `present`: the sandboxes that are there, started or not. */
async function adopt(
  record: WorkloadRecord,
  present: ReadonlySet<string>,
  { records, runtimes, logger, partsOf, add }: AdoptOptions,
): Promise<SandboxRecord | undefined> {
  const { id, end, restart } = record;
  const waits = end === undefined && restart?.next !== undefined;
  const wanted = end === undefined && !waits ? record.sandbox : undefined;
  const parts = partsOf(record);
  const sandbox = parts && wanted && (await runtimes.adopt(wanted));
  // One that is there and was never started has done nothing that anybody would have to be told of.
  const neverStarted = sandbox === undefined && wanted !== undefined && present.has(wanted.instance);
  if (parts === undefined || (neverStarted && restart === undefined)) {
    // In the latter case its node will have it started for the first time.
    await records.remove(id);
    return undefined;
  }
  if (end !== undefined) {
    add(Workload.ended(parts, { ...record, end }));
    return undefined;
  }
  const workload = new Workload(parts);
  add(workload);
  if (sandbox !== undefined) {
    workload.adopt(sandbox, record);
    logger.info({ workload: id, name: record.request.name }, 'workload adopted');
  } else if (waits || neverStarted) workload.resume(record);
  else await workload.lose(record);
  return sandbox?.record;
}

async function clear(record: SandboxRecord, runtimes: Runtimes): Promise<void> {
  const leftover = await runtimes.adopt(record);
  await leftover?.stop({ graceMs: 0 });
  await leftover?.remove();
}
