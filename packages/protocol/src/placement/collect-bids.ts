import type { NexClient } from '../client/nex-client.ts';
import type { Bid } from '../messages/auction-messages.ts';
import { ProtocolError } from '../protocol-error.ts';
import { anySignal } from '../wire/signals.ts';
import { explainNoBids } from './explain-no-bids.ts';
import { surveyNodes } from './survey.ts';
import type { WorkloadToPlace } from './workload-to-place.ts';

/** How long to wait for the first bid, in milliseconds; together with the explanation less than two seconds. */
const FIRST_BID_TIMEOUT = 1_000;
/** How long to wait for one more bid. */
const BID_STALL = 150;
/** Go nodes bid also when they are about to end. This tag they have, and it tells. */
const NOT_LEAVING = { 'nex.lameduck': 'false' };
/** How long nodes have to say why they do not bid. */
const EXPLAIN_TIMEOUT = 600;
const EXPLAIN_STALL = 250;

/**
 * The bids for a workload. When nobody bids, a second auction asks for the reasons, while the nodes are looked at: those
 * of Go Nex say nothing. A node that did not bid only for a moment, as theirs do now and then, has its second chance there;
 * so has one that is about to end, or does not say whether it is.
 *
 * @throws {ProtocolError} NEX_NO_NODES, NEX_NO_BIDS, within two seconds
 */
export async function collectBids(client: NexClient, workload: WorkloadToPlace): Promise<Bid[]> {
  const { type, name, lifecycle, tags = {}, namespace = client.namespace, needs, signal } = workload;
  const lot = { type, tags, namespace, lifecycle, workload: { namespace, name }, needs, signal };
  const staying = { ...lot, tags: { ...NOT_LEAVING, ...tags } };
  const first = await client.auction({ ...staying, timeout: FIRST_BID_TIMEOUT, stall: BID_STALL });
  if (first.bids.length > 0) return first.bids;
  if (first.noResponders) throw noNodes();

  const enough = new AbortController();
  const survey = surveyNodes(client, { tags, signal: anySignal(enough.signal, signal) });
  try {
    const second = await client.auction({ ...lot, explain: true, timeout: EXPLAIN_TIMEOUT, stall: EXPLAIN_STALL });
    if (second.bids.length > 0) return second.bids;
    if (second.noResponders) throw noNodes();
    const seen = { noBids: second.noBids, errors: [...first.errors, ...second.errors], survey: await survey };
    signal?.throwIfAborted();
    throw new ProtocolError(
      'NEX_NO_BIDS',
      `No node can run a workload of type "${type}": ${explainNoBids(seen, { type, tags })}`,
      { hint: 'See the nodes with their tags and nexlets: nex node list, nex node info <id>' },
    );
  } finally {
    enough.abort();
    await survey;
  }
}

function noNodes(): ProtocolError {
  return new ProtocolError('NEX_NO_NODES', 'Cannot place a workload: no node answers', {
    hint: 'Start one: nex node up',
  });
}
