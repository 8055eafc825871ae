import { explainNoBids, type Survey, surveyNodes } from './explain-no-bids.ts';
import type { NexClient } from './nex-client.ts';
import { ProtocolError } from './protocol-error.ts';
import { describeIssues, parseRunRequestSchema } from './run-request.ts';
import type { Lifecycle, Tags } from './shared-messages.ts';
import type { Bid } from './workload-messages.ts';

/** How long to wait for the first bid, in milliseconds; together with the survey it keeps a failure under two seconds. */
const FIRST_BID_TIMEOUT = 1_500;
/** How long to wait for one more bid. */
const BID_STALL = 150;

export interface WorkloadToPlace {
  /** The nexlet type that is to run it, e.g. `nix`. */
  type: string;
  name: string;
  lifecycle: Lifecycle;
  /** What the nexlet's schema asks for; goes out as JSON text. */
  runRequest: unknown;
  /** Tags that the node must have. */
  tags?: Tags;
  description?: string;
  /** Default: the client's. */
  namespace?: string;
  /** How long the node may take to answer the deployment, in milliseconds. Default 60 s. */
  timeout?: number;
  signal?: AbortSignal;
}

export interface PlacedWorkload {
  readonly id: string;
  readonly name: string;
  /** Known when the node is one of this project. */
  readonly nodeId?: string;
}

export async function placeWorkload(client: NexClient, workload: WorkloadToPlace): Promise<PlacedWorkload> {
  const {
    type,
    name,
    lifecycle,
    runRequest,
    tags = {},
    description = '',
    namespace = client.namespace,
    timeout,
    signal,
  } = workload;
  const bid = chooseBid(await collectBids(client, { type, tags, namespace, signal }), workload);
  const request = {
    description,
    name,
    namespace,
    run_request: JSON.stringify(runRequest),
    tags,
    workload_lifecycle: lifecycle,
    workload_type: type,
  };
  const started = await client.deploy(bid, request, { signal, ...(timeout === undefined ? {} : { timeout }) });
  return { id: started.id, name: started.name, ...(bid.node_id === undefined ? {} : { nodeId: bid.node_id }) };
}

interface Lot {
  type: string;
  tags: Tags;
  namespace: string;
  signal: AbortSignal | undefined;
}

/** Holds the auction. While no bid comes it already looks at the nodes, so that it can say at the end what they lack. */
async function collectBids(client: NexClient, { type, tags, namespace, signal }: Lot): Promise<Bid[]> {
  const enough = new AbortController();
  const survey = surveyNodes(client, {
    type,
    tags,
    signal: AbortSignal.any([enough.signal, ...(signal === undefined ? [] : [signal])]),
  });
  let seen: Survey | undefined;
  try {
    const { bids, errors, noResponders } = await client.auction({
      type,
      tags,
      namespace,
      timeout: FIRST_BID_TIMEOUT,
      stall: BID_STALL,
      signal,
    });
    if (bids.length > 0) return bids;
    if (errors[0] !== undefined) throw errors[0];
    if (noResponders) throw noNodes();
    seen = await survey;
  } finally {
    enough.abort();
    await survey;
  }
  if (seen !== undefined && seen.nodes.length === 0) throw noNodes();
  throw new ProtocolError(
    'NEX_NO_BIDS',
    `No node can run a workload of type "${type}": ${explainNoBids(seen, { type, tags })}`,
    {
      hint: 'See the nodes with their tags and nexlets: nex node list, nex node info <id>',
    },
  );
}

function noNodes(): ProtocolError {
  return new ProtocolError('NEX_NO_NODES', 'Cannot place a workload: no node answers', {
    hint: 'Start one: nex node up',
  });
}

/** One of the bids that take the lifecycle and the run request, at random so that load spreads. */
function chooseBid(bids: readonly Bid[], { name, type, lifecycle, runRequest }: WorkloadToPlace): Bid {
  const able = bids.filter((bid) => bid.supported_lifecycles.includes(lifecycle));
  if (able.length === 0) {
    const offered = [...new Set(bids.flatMap((bid) => bid.supported_lifecycles))].join(', ') || 'none';
    throw new ProtocolError(
      'NEX_NO_BIDS',
      `No node can run a workload of type "${type}" as ${lifecycle}: ${bids.length} bid, for the lifecycles ${offered}`,
    );
  }
  const complaints: string[] = [];
  const fitting = able.filter((bid) => {
    const complaint = complaintOf(bid, runRequest);
    if (complaint !== undefined) complaints.push(complaint);
    return complaint === undefined;
  });
  const chosen = fitting[Math.floor(Math.random() * fitting.length)];
  if (chosen !== undefined) return chosen;
  throw new ProtocolError(
    'NEX_REQUEST_INVALID',
    `Cannot start workload "${name}": its run request is not valid, ${complaints[0]}`,
  );
}

function complaintOf(bid: Bid, runRequest: unknown): string | undefined {
  try {
    const issues = parseRunRequestSchema(bid.start_request_schema).check(runRequest);
    return issues.length === 0 ? undefined : describeIssues(issues);
  } catch (error) {
    if (error instanceof ProtocolError) return error.message;
    throw error;
  }
}
