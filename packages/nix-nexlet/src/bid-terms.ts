import { availableParallelism, totalmem } from 'node:os';
import type { LocalStore } from '@nex-nix/nix';
import type { AuctionRequest, BidTerms } from '@nex-nix/protocol';
import type { Runtimes } from './runtimes.ts';

/** What workloads may ask for together. */
export interface Capacity {
  /** Bytes; those of the machine. */
  readonly memory: number;
  /** Processors; those of the machine. */
  readonly cpus: number;
  /** How many times the processors may be promised: few programs use theirs all the time. Memory is promised once. */
  readonly cpuOvercommit: number;
}

export const MACHINE: Capacity = { memory: totalmem(), cpus: availableParallelism(), cpuOvercommit: 4 };

/** What a workload asks for: memory in bytes, processors, ports of the machine. What it does not ask for is not set aside. */
export interface Reservation {
  readonly memory?: number;
  readonly cpus?: number;
  readonly ports?: readonly number[];
}

/** A workload that is alive, as far as bids depend on it. */
export interface Tenant {
  readonly namespace: string;
  readonly name: string;
  readonly reservation: Reservation;
}

/** Sizes of store paths that are looked up for one bid. */
const MAX_CLOSURE = 64;
/** Ports that are looked at for one bid: as many as a workload may expose. */
const MAX_PORTS = 64;

/** What a bid depends on. */
export interface Bidder {
  readonly capacity: Capacity;
  readonly tenants: readonly Tenant[];
  readonly store: LocalStore;
  readonly runtimes: Runtimes;
}

/** What to bid for a workload that needs so much: nothing when it does not fit beside those that are alive. */
export async function bidTerms(
  { workload, needs = {} }: AuctionRequest,
  { capacity, tenants, store, runtimes }: Bidder,
): Promise<BidTerms> {
  const refusal =
    runtimes.whyNot(needs['sandbox']) ??
    whyNoRoom(readReservation(needs), { capacity, tenants, namespace: workload?.namespace });
  const missing = await missingBytes(needs['closure'], store);
  return {
    ...(refusal === undefined ? {} : { refusal }),
    ...(missing === undefined ? {} : { missing_bytes: missing }),
    ...(workload === undefined
      ? {}
      : {
          siblings: tenants.filter((other) => other.namespace === workload.namespace && other.name === workload.name)
            .length,
        }),
    workloads: tenants.length,
  };
}

interface Room {
  readonly capacity: Capacity;
  readonly tenants: readonly Tenant[];
  /** Of whoever asks: names of other namespaces are not for it to know. */
  readonly namespace: string | undefined;
}

/** Why a workload does not fit, as a text that completes "the node …"; undefined when it does. */
export function whyNoRoom(
  { memory = 0, cpus = 0, ports = [] }: Reservation,
  { capacity, tenants, namespace }: Room,
): string | undefined {
  for (const port of ports) {
    const holder = tenants.find(({ reservation }) => reservation.ports?.includes(port));
    if (holder === undefined) continue;
    const who = holder.namespace === namespace ? `workload "${holder.name}"` : 'a workload of another namespace';
    return `has no port ${port} left: it is taken by ${who}`;
  }
  const taken = (what: 'memory' | 'cpus') =>
    tenants.reduce((sum, { reservation }) => sum + (reservation[what] ?? 0), 0);
  const memoryLeft = capacity.memory - taken('memory');
  if (memory > 0 && memory > memoryLeft) {
    return `has ${mebibytes(memoryLeft)} of memory left for workloads, not ${mebibytes(memory)}`;
  }
  const cpusLeft = capacity.cpus * capacity.cpuOvercommit - taken('cpus');
  // A sandbox uses no more processors than there are, whatever may be promised.
  if (cpus > 0 && (cpus > capacity.cpus || cpus > cpusLeft)) {
    return `has ${Math.max(0, Math.min(capacity.cpus, cpusLeft))} processors left for workloads, not ${cpus}`;
  }
  return undefined;
}

function mebibytes(bytes: number): string {
  return `${Math.max(0, Math.floor(bytes / 2 ** 20))} MiB`;
}

function readReservation(needs: Readonly<Record<string, unknown>>): Reservation {
  const number = (what: string) => (typeof needs[what] === 'number' && needs[what] > 0 ? needs[what] : 0);
  const { ports } = needs;
  const isPort = (port: unknown) => Number.isInteger(port);
  return {
    memory: number('memory'),
    cpus: number('cpus'),
    ports: Array.isArray(ports) ? ports.filter(isPort).slice(0, MAX_PORTS) : [],
  };
}

/** Sum of the sizes of the store paths that are not here; undefined when none are named. `closure`: NAR sizes by store hash. */
async function missingBytes(closure: unknown, store: LocalStore): Promise<number | undefined> {
  if (typeof closure !== 'object' || closure === null) return undefined;
  const sizes = new Map<string, number>();
  for (const [hash, size] of Object.entries(closure).slice(0, MAX_CLOSURE)) {
    if (/^[0-9a-z]{32}$/.test(hash) && typeof size === 'number' && size >= 0) sizes.set(hash, size);
  }
  const missing = await store.missingHashes(sizes.keys());
  return missing.reduce((sum, hash) => sum + (sizes.get(hash) ?? 0), 0);
}
