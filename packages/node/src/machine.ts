import { availableParallelism, freemem, loadavg, totalmem } from 'node:os';
import type { Bid } from '@nex-nix/protocol';

/** What bids say of the machine. */
export type MachineFacts = Required<Pick<Bid, 'load' | 'memory_free' | 'memory_total' | 'cpus'>>;

/** How long the facts hold, in milliseconds: bids come in bursts, and files are read for the facts. */
const FRESH = 250;

let last: { readonly time: number; readonly facts: MachineFacts } | undefined;

/** The machine as it is now, or was a moment ago. */
export function machineFacts(): MachineFacts {
  const time = performance.now();
  if (last === undefined || time - last.time > FRESH) last = { time, facts: readFacts() };
  return last.facts;
}

/**
 * Where the control group of this process has less processors or memory than the machine,
 * that counts. `load` is 0 to 1: processors (average of the last minute) or memory, whichever is used more.
 */
function readFacts(): MachineFacts {
  const limit = process.constrainedMemory();
  const cpus = availableParallelism();
  const total = limit > 0 ? Math.min(totalmem(), limit) : totalmem();
  const free = Math.min(total, freemem(), process.availableMemory());
  const [minute = 0] = loadavg();
  const load = Math.min(1, Math.max(minute / cpus, 1 - free / total));
  return { load: Math.round(load * 1_000) / 1_000, memory_free: free, memory_total: total, cpus };
}
