/** What a node has done since it started. */
export class NodeCounters {
  /** Auctions that it heard of. */
  auctions = 0;
  /** Auctions that it took part in. */
  bids = 0;
  /** Workloads that were handed to a nexlet, or should have been. */
  deployments = 0;
  /** Those of them that no nexlet has accepted. */
  deploymentFailures = 0;
}
