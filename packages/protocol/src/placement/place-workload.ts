import type { NatsConnection } from '@nats-io/nats-core';
import type { NexClient } from '../client/nex-client.ts';
import { deployTo } from '../client/deploy.ts';
import { ProtocolError } from '../protocol-error.ts';
import { collectBids } from './collect-bids.ts';
import { fittingOffers, type Offer } from './fit.ts';
import { rankBids } from './rank-bids.ts';
import type { PlacedWorkload, WorkloadToPlace } from './workload-to-place.ts';

/** How many nodes are tried when nodes that bid have no room any more. */
const MAX_TRIES = 3;

/** Auction, choice of a bid, deploy. */
export async function placeWorkload(
  nc: NatsConnection,
  client: NexClient,
  workload: WorkloadToPlace,
): Promise<PlacedWorkload> {
  const offers = fittingOffers(await collectBids(client, workload), workload);
  let refusal: ProtocolError | undefined;
  for (const offer of rankBids(offers, workload.strategy ?? 'balance').slice(0, MAX_TRIES)) {
    const outcome = await deploy(nc, client, { offer, workload });
    if ('placed' in outcome) return outcome.placed;
    refusal = outcome.notStarted;
  }
  throw refusal ?? new TypeError('there is no offer to try');
}

async function deploy(
  nc: NatsConnection,
  client: NexClient,
  { offer, workload }: { offer: Offer; workload: WorkloadToPlace },
): Promise<{ placed: PlacedWorkload } | { notStarted: ProtocolError }> {
  const { type, name, lifecycle, tags = {}, labels = {}, description = '', metadata, reference } = workload;
  const { timeout, signal, namespace = client.namespace } = workload;
  const { bid } = offer;
  const request = {
    description,
    name,
    namespace,
    tags: { ...labels, ...tags },
    workload_lifecycle: lifecycle,
    workload_type: type,
    ...(metadata === undefined ? {} : { metadata: { ...metadata } }),
    ...(reference === undefined ? {} : { reference }),
  };
  let runRequest: string;
  try {
    runRequest = JSON.stringify(offer.runRequest());
  } catch (error) {
    // The key in a bid that is none: another node may have a better one.
    if (error instanceof ProtocolError && error.code === 'NEX_SEAL_INVALID') return { notStarted: error };
    throw error;
  }
  const outcome = await deployTo(nc, bid, { ...request, run_request: runRequest }, { timeout, signal });
  if ('notStarted' in outcome) return outcome;
  const { id, name: started } = outcome.started;
  return {
    placed: {
      id,
      name: started,
      ...(bid.node_id === undefined ? {} : { nodeId: bid.node_id }),
      ...(bid.node_name === undefined ? {} : { nodeName: bid.node_name }),
    },
  };
}
