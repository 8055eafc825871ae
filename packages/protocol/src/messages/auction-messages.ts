import { type Static, Type } from 'typebox';
import { defineMessage } from '../wire/message.ts';
import { LifecycleSchema, TagMap } from './shared-messages.ts';

const AuctionRequestSchema = Type.Object({
  agent_type: Type.String({ description: 'The workload type' }),
  auction_id: Type.String({ description: 'Id of the auction, chosen by the client' }),
  tags: Type.With(TagMap, { description: 'Tags that the node must have' }),
  lifecycle: Type.Optional(
    Type.With(LifecycleSchema, {
      description: 'Read by nodes of this project only, as every further key: what the bid must be able to run',
    }),
  ),
  workload: Type.Optional(
    Type.Object(
      { namespace: Type.String({ description: 'Its namespace' }), name: Type.String({ description: 'Its name' }) },
      { description: 'Which workload it will be: bids say how many of the same namespace and name are there already' },
    ),
  ),
  needs: Type.Optional(
    Type.Record(Type.String(), Type.Unknown(), {
      description: 'What it needs, in the terms of its type; handed to the nexlet as it is',
    }),
  ),
  explain: Type.Optional(
    Type.Boolean({ description: 'A node that does not bid says why (NoBid) instead of staying silent' }),
  ),
});
export const AuctionRequest = defineMessage('AuctionRequest', AuctionRequestSchema);
export type AuctionRequest = Static<typeof AuctionRequestSchema>;

const AuctionResponseSchema = Type.Object({
  bidder_id: Type.String({ description: 'The id of the bid' }),
  start_request_schema: Type.String({ description: "JSON text of the nexlet's schema of run_request" }),
  supported_lifecycles: Type.Array(LifecycleSchema, { description: 'Lifecycles that the nexlet runs' }),
  xkey: Type.String({ description: 'Public curve key of the nexlet, X…' }),
  node_id: Type.Optional(Type.String({ description: 'Sent by nodes of this project only, as every further key' })),
  node_name: Type.Optional(Type.String({ description: 'Name of the node' })),
  load: Type.Optional(
    Type.Number({ description: 'How busy the node is, 0 to 1: its processors or its memory, whichever is more' }),
  ),
  memory_free: Type.Optional(Type.Number({ description: 'In bytes' })),
  memory_total: Type.Optional(Type.Number({ description: 'In bytes' })),
  cpus: Type.Optional(Type.Number({ description: 'Processors of the node' })),
  workloads: Type.Optional(Type.Number({ description: 'How many workloads its nexlet runs' })),
  max_workloads: Type.Optional(Type.Number({ description: 'How many it may run; 0: as many as come' })),
  missing_bytes: Type.Optional(
    Type.Number({ description: 'How many bytes of what the workload consists of would have to be fetched' }),
  ),
  siblings: Type.Optional(
    Type.Number({ description: 'How many workloads of the same namespace and name the nexlet runs' }),
  ),
});
export const AuctionResponse = defineMessage('AuctionResponse', AuctionResponseSchema);
/** What a node offers in an auction. Keys that are not declared here are what its nexlet adds. */
export type Bid = Static<typeof AuctionResponseSchema> & Readonly<Record<string, unknown>>;

/** Marks the reply of a node that explains why it does not bid. */
export const NO_BID_HEADER = 'Nex-No-Bid';

const NoBidSchema = Type.Object({
  node_id: Type.String({ description: 'Id of the node' }),
  node_name: Type.String({ description: 'Name of the node' }),
  reason: Type.String({ description: 'What is in the way, e.g. "lacks tag region=lab": completes "<node> …"' }),
});
/** Answer to an auction with `explain`, with the header {@link NO_BID_HEADER}. No part of Nex 0.4: nobody else is sent it. */
export const NoBid = defineMessage('NoBid', NoBidSchema);
export type NoBid = Static<typeof NoBidSchema>;

const BidTermsSchema = Type.Object({
  refusal: Type.Optional(
    Type.String({
      description: 'Why the nexlet does not want the workload, as the reason of a NoBid; absent when it does',
    }),
  ),
  workloads: Type.Optional(Type.Number({ description: 'As in the bid' })),
  missing_bytes: Type.Optional(Type.Number({ description: 'As in the bid' })),
  siblings: Type.Optional(Type.Number({ description: 'As in the bid' })),
});
/** BID: what a nexlet of this project answers when its node asks what to bid, with the auction's request as the question. */
export const BidTerms = defineMessage('BidTerms', BidTermsSchema);
export type BidTerms = Static<typeof BidTermsSchema>;
