import {
  assert,
  array,
  constantFrom,
  float,
  integer,
  nat,
  option,
  property,
  record,
  shuffledSubarray,
} from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Bid } from '../messages/auction-messages.ts';
import { compareScores, rankBids, scoreBids } from './rank-bids.ts';
import { PLACEMENT_STRATEGIES } from './workload-to-place.ts';

const MIB = 2 ** 20;
const bid = (id: string, extras: Partial<Bid> = {}): { bid: Bid } => ({
  bid: { bidder_id: id, start_request_schema: '{}', supported_lifecycles: [], xkey: '', ...extras },
});
const order = (offers: { bid: Bid }[], strategy: (typeof PLACEMENT_STRATEGIES)[number]) =>
  rankBids(offers, strategy).map((offer) => offer.bid.bidder_id);

describe('rankBids()', () => {
  it('balance: prefers what has little to fetch on a node that is little busy', () => {
    const idle = bid('idle', { load: 0.1, missing_bytes: 0 });
    const far = bid('far', { load: 0.1, missing_bytes: 1024 * MIB });
    const busy = bid('busy', { load: 0.95, missing_bytes: 0 });
    expect(order([busy, far, idle], 'balance')).toEqual(['idle', 'far', 'busy']);
    // A little to fetch is nothing against a busy node, and little load nothing against a lot to fetch.
    const near = bid('near', { load: 0.1, missing_bytes: 20 * MIB });
    const halfway = bid('halfway', { load: 0.4, missing_bytes: 0 });
    expect(order([halfway, far, near], 'balance')).toEqual(['near', 'halfway', 'far']);
  });

  it('balance: a burst does not follow the noise of the load, but the count of workloads', () => {
    const few = bid('few', { load: 0.12, missing_bytes: 0, workloads: 1 });
    const many = bid('many', { load: 0.1, missing_bytes: 0, workloads: 5 });
    expect(order([many, few], 'balance')).toEqual(['few', 'many']);
  });

  it('balance: a nexlet that is nearly full counts as busy', () => {
    const full = bid('full', { load: 0, workloads: 9, max_workloads: 10 });
    const roomy = bid('roomy', { load: 0.3, workloads: 9, max_workloads: 100 });
    expect(order([full, roomy], 'balance')).toEqual(['roomy', 'full']);
  });

  it('spread: fewest of the same name, then fewest of any, then least busy', () => {
    const offers = [
      bid('busy', { siblings: 0, workloads: 3, load: 0.9 }),
      bid('crowded', { siblings: 0, workloads: 9, load: 0 }),
      bid('twin', { siblings: 1, workloads: 1, load: 0 }),
      bid('calm', { siblings: 0, workloads: 3, load: 0.1 }),
    ];
    expect(order(offers, 'spread')).toEqual(['calm', 'busy', 'crowded', 'twin']);
  });

  it('pack: the fullest first', () => {
    const memory = (free: number) => ({ memory_free: free, memory_total: 100 });
    const offers = [
      bid('empty', { ...memory(90), workloads: 0 }),
      bid('full', { ...memory(10), workloads: 4 }),
      bid('half', { ...memory(50), workloads: 2 }),
      bid('half, more', { ...memory(51), workloads: 3 }),
    ];
    expect(order(offers, 'pack')).toEqual(['full', 'half, more', 'half', 'empty']);
  });

  it('takes a bid that says nothing, as those of Go nodes, for an average one', () => {
    const offers = [bid('worse', { load: 0.9, siblings: 2 }), bid('go'), bid('better', { load: 0.1, siblings: 0 })];
    expect(order(offers, 'balance')).toEqual(['better', 'go', 'worse']);
    expect(order(offers, 'spread')).toEqual(['better', 'go', 'worse']);
  });

  it('takes any of those that are as good as each other', () => {
    const winners = new Set(Array.from({ length: 200 }, () => order([bid('a'), bid('b'), bid('c')], 'balance')[0]));
    expect(winners).toEqual(new Set(['a', 'b', 'c']));
  });
});

describe('scores', () => {
  const extras = record({
    load: option(float({ noNaN: true }), { nil: undefined }),
    memory_free: option(integer(), { nil: undefined }),
    memory_total: option(integer(), { nil: undefined }),
    workloads: option(integer({ min: -5, max: 50 }), { nil: undefined }),
    max_workloads: option(integer({ min: -1, max: 20 }), { nil: undefined }),
    siblings: option(nat(5), { nil: undefined }),
    missing_bytes: option(float({ noNaN: true }), { nil: undefined }),
  });
  const bids = array(extras, { minLength: 1, maxLength: 12 }).map((all) =>
    all.map((each, index) => bid(String(index), each as Partial<Bid>).bid),
  );
  const shuffled = bids.chain((all) =>
    shuffledSubarray(all, { minLength: all.length, maxLength: all.length }).map((other) => ({ all, other })),
  );

  it('do not depend on the order of the bids, and put them in a total order', () => {
    assert(
      property(shuffled, constantFrom(...PLACEMENT_STRATEGIES), ({ all, other }, strategy) => {
        const scores = scoreBids(all, strategy);
        const again = scoreBids(other, strategy);
        for (const [index, each] of other.entries()) expect(again[index]).toEqual(scores[all.indexOf(each)]);
        for (const a of scores) {
          expect(a.every((value) => Number.isFinite(value))).toBe(true);
          for (const b of scores) {
            expect(Math.sign(compareScores(a, b)) + Math.sign(compareScores(b, a))).toBe(0);
            for (const c of scores) {
              if (compareScores(a, b) <= 0 && compareScores(b, c) <= 0)
                expect(compareScores(a, c)).toBeLessThanOrEqual(0);
            }
          }
        }
      }),
    );
  });
});
