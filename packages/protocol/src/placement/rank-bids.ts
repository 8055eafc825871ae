import type { Bid } from '../messages/auction-messages.ts';
import type { PlacementStrategy } from './workload-to-place.ts';

/** Having to fetch this many bytes weighs as much as a node that is half busy: 256 MiB. */
const HALF_WEIGHT_BYTES = 256 * 2 ** 20;

/** Numbers that decide between two bids: the first that differs does, the smaller wins. */
export type Score = readonly number[];

/** What the strategies look at. A bid of a Go node, which says nothing of it, counts as an average one. */
interface Standing {
  /** How many workloads of the same namespace and name. */
  readonly siblings: number;
  readonly workloads: number;
  /** 0 to 1: processors or memory, or of the workloads that it may run, whichever is more. */
  readonly busy: number;
  /** 0 to 1: memory that is in use, or of the workloads that it may run, whichever is more. */
  readonly full: number;
  readonly missingBytes: number;
}

/**
 * How each strategy sees a bid. Shares are rounded to tenths: they jitter and lag behind, so that a burst of workloads
 * would all go to the node that happened to be a hundredth less busy. Between equals the count of workloads decides.
 *
 * - `balance`: a node that is little busy and has little to fetch. The cost is `busy + m / (m + 256 MiB)`, where `m` are
 *   the missing bytes: having all of it against having nothing of it counts as much as an idle node against a busy one.
 * - `spread`: the fewest workloads of the same name, then the fewest of any, then the least busy.
 * - `pack`: the fullest, so that others stay empty. Who is too full does not bid.
 */
const SCORES: Readonly<Record<PlacementStrategy, (standing: Standing) => Score>> = {
  balance: ({ busy, missingBytes, workloads }) => [tenths(busy + fetchCost(missingBytes)), workloads],
  spread: ({ siblings, workloads, busy, missingBytes }) => [
    siblings,
    workloads,
    tenths(busy),
    tenths(fetchCost(missingBytes)),
  ],
  pack: ({ full, workloads, missingBytes }) => [-tenths(full), -workloads, tenths(fetchCost(missingBytes))],
};

const tenths = (share: number) => Math.round(share * 10) / 10;
const fetchCost = (bytes: number) => bytes / (bytes + HALF_WEIGHT_BYTES);

/** Puts bids in order, the best first. Bids that are as good as each other come in random order. */
export function rankBids<T extends { readonly bid: Bid }>(offers: readonly T[], strategy: PlacementStrategy): T[] {
  const scores = scoreBids(
    offers.map(({ bid }) => bid),
    strategy,
  );
  return offers
    .map((offer, index) => ({ offer, score: [...(scores[index] ?? []), Math.random()] }))
    .sort((a, b) => compareScores(a.score, b.score))
    .map(({ offer }) => offer);
}

/** The score of each bid, in the order of `bids`, which it does not depend on. */
export function scoreBids(bids: readonly Bid[], strategy: PlacementStrategy): Score[] {
  const average: Standing = {
    siblings: mean(bids.map((bid) => siblings(bid))),
    workloads: mean(bids.map((bid) => workloads(bid))),
    busy: mean(bids.map((bid) => busy(bid))),
    full: mean(bids.map((bid) => full(bid))),
    missingBytes: mean(bids.map((bid) => missingBytes(bid))),
  };
  return bids.map((bid) =>
    SCORES[strategy]({
      siblings: siblings(bid) ?? average.siblings,
      workloads: workloads(bid) ?? average.workloads,
      busy: busy(bid) ?? average.busy,
      full: full(bid) ?? average.full,
      missingBytes: missingBytes(bid) ?? average.missingBytes,
    }),
  );
}

/** Negative when `a` is better. */
export function compareScores(a: Score, b: Score): number {
  const at = a.findIndex((value, index) => value !== b[index]);
  return at === -1 ? 0 : (a[at] ?? 0) - (b[at] ?? 0);
}

const siblings = ({ siblings }: Bid) => count(siblings);
const workloads = ({ workloads }: Bid) => count(workloads);
const missingBytes = ({ missing_bytes: bytes }: Bid) => count(bytes);
const busy = (bid: Bid) => most(share(bid.load), quota(bid));
const full = (bid: Bid) => most(memoryUsed(bid), quota(bid));

function memoryUsed({ memory_free: free, memory_total: total }: Bid): number | undefined {
  return free === undefined || total === undefined || total <= 0 ? undefined : share(1 - free / total);
}

/** How much is taken of the number of workloads that the nexlet may run; undefined when it may run any number. */
function quota({ workloads, max_workloads: max = 0 }: Bid): number | undefined {
  return workloads === undefined || max <= 0 ? undefined : share(workloads / max);
}

/** Bids come from other machines: nothing below zero, nothing endless. */
const count = (value: number | undefined) =>
  value === undefined ? undefined : Math.min(Math.max(0, value), Number.MAX_SAFE_INTEGER);
const share = (value: number | undefined) => (value === undefined ? undefined : Math.min(Math.max(0, value), 1));
const most = (a: number | undefined, b: number | undefined) => (a === undefined ? b : Math.max(a, b ?? 0));

/** Of the values that are known; 0 when none is. Sorted first: a sum of fractions depends on their order. */
function mean(values: readonly (number | undefined)[]): number {
  const known = values.filter((value) => value !== undefined).sort((a, b) => a - b);
  return known.length === 0 ? 0 : known.reduce((sum, value) => sum + value, 0) / known.length;
}
