import { type Static, Type } from 'typebox';
import { defineMessage } from '../wire/message.ts';
import { LifecycleSchema, TagMap } from './shared-messages.ts';

const AuctionRequestSchema = Type.Object({
  agent_type: Type.String(),
  auction_id: Type.String(),
  tags: TagMap,
  /** Read by nodes of this project only, as every further key: what the bid must be able to run. */
  lifecycle: Type.Optional(LifecycleSchema),
  /** Which workload it will be: bids say how many of the same namespace and name are there already. */
  workload: Type.Optional(Type.Object({ namespace: Type.String(), name: Type.String() })),
  /** What it needs, in the terms of its type; handed to the nexlet as it is. */
  needs: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  /** A node that does not bid says why ({@link NoBid}) instead of staying silent. */
  explain: Type.Optional(Type.Boolean()),
});
export const AuctionRequest = defineMessage('AuctionRequest', AuctionRequestSchema);
export type AuctionRequest = Static<typeof AuctionRequestSchema>;

const AuctionResponseSchema = Type.Object({
  /** The id of the bid. */
  bidder_id: Type.String(),
  /** JSON text of the nexlet's schema of `run_request`. */
  start_request_schema: Type.String(),
  supported_lifecycles: Type.Array(LifecycleSchema),
  /** Public curve key of the nexlet, `X…`. */
  xkey: Type.String(),
  /** Sent by nodes of this project only, as every further key. */
  node_id: Type.Optional(Type.String()),
  node_name: Type.Optional(Type.String()),
  /** How busy the node is, 0 to 1: its processors or its memory, whichever is more. */
  load: Type.Optional(Type.Number()),
  /** In bytes. */
  memory_free: Type.Optional(Type.Number()),
  /** In bytes. */
  memory_total: Type.Optional(Type.Number()),
  cpus: Type.Optional(Type.Number()),
  /** How many workloads its nexlet runs. */
  workloads: Type.Optional(Type.Number()),
  /** How many it may run; 0: as many as come. */
  max_workloads: Type.Optional(Type.Number()),
  /** How many bytes of what the workload consists of would have to be fetched. */
  missing_bytes: Type.Optional(Type.Number()),
  /** How many workloads of the same namespace and name the nexlet runs. */
  siblings: Type.Optional(Type.Number()),
});
export const AuctionResponse = defineMessage('AuctionResponse', AuctionResponseSchema);
/** What a node offers in an auction. Keys that are not declared here are what its nexlet adds. */
export type Bid = Static<typeof AuctionResponseSchema> & Readonly<Record<string, unknown>>;

/** Marks the reply of a node that explains why it does not bid. */
export const NO_BID_HEADER = 'Nex-No-Bid';

const NoBidSchema = Type.Object({
  node_id: Type.String(),
  node_name: Type.String(),
  /** What is in the way, e.g. `lacks tag region=lab`: completes "<node> …". */
  reason: Type.String(),
});
/** Answer to an auction with `explain`, with the header {@link NO_BID_HEADER}. No part of Nex 0.4: nobody else is sent it. */
export const NoBid = defineMessage('NoBid', NoBidSchema);
export type NoBid = Static<typeof NoBidSchema>;

const BidTermsSchema = Type.Object({
  /** Why the nexlet does not want the workload, as {@link NoBid}'s `reason`; absent when it does. */
  refusal: Type.Optional(Type.String()),
  workloads: Type.Optional(Type.Number()),
  missing_bytes: Type.Optional(Type.Number()),
  siblings: Type.Optional(Type.Number()),
});
/** BID: what a nexlet of this project answers when its node asks what to bid, with the auction's request as the question. */
export const BidTerms = defineMessage('BidTerms', BidTermsSchema);
export type BidTerms = Static<typeof BidTermsSchema>;
