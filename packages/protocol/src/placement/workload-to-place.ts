import type { KeyPair } from '@nats-io/nkeys';
import type { Lifecycle, Tags } from '../messages/shared-messages.ts';

/** Which of the nodes that could run a workload is to get it. */
export type PlacementStrategy = 'balance' | 'spread' | 'pack';

/** All strategies. */
export const PLACEMENT_STRATEGIES: readonly PlacementStrategy[] = ['balance', 'spread', 'pack'];

/** A workload, and what decides where it goes. */
export interface WorkloadToPlace {
  /** The nexlet type that is to run it, e.g. `nix`. */
  type: string;
  name: string;
  lifecycle: Lifecycle;
  /** What the nexlet's schema asks for; goes out as JSON text. */
  runRequest: unknown;
  /**
   * Environment of the workload. It is sealed to the nexlet whose bid wins (`encrypted_environment` of the run request);
   * a nexlet whose schema has no such field gets it only with `allowClearEnvironment`, as `environment`.
   */
  environment?: Readonly<Record<string, string>>;
  /** Curve key to seal the environment with. Default: one made for this workload. */
  sender?: KeyPair;
  /** Send the environment in clear to a nexlet that cannot open a sealed one. Default false. */
  allowClearEnvironment?: boolean;
  /** Tags that the node must have. They are also tags of the workload. */
  tags?: Tags;
  /** Further tags of the workload, which are no condition for the node. */
  labels?: Tags;
  /** What it needs, in the terms of its type; nexlets of this project refuse or bid accordingly. */
  needs?: Readonly<Record<string, unknown>>;
  /** Default `balance`. */
  strategy?: PlacementStrategy;
  /** Ids of nodes that are not to get it. Go nodes do not say who they are when they bid: they cannot be avoided. */
  avoid?: readonly string[];
  description?: string;
  /** Anything that is to be kept with the workload; not looked at. */
  metadata?: Readonly<Record<string, unknown>>;
  reference?: string;
  /** Default: the client's. */
  namespace?: string;
  /** How long the node may take to answer the deployment, in milliseconds. Default 60 s. */
  timeout?: number;
  signal?: AbortSignal | undefined;
}

/** A workload that a node has accepted. */
export interface PlacedWorkload {
  readonly id: string;
  readonly name: string;
  /** Known when the node is one of this project. */
  readonly nodeId?: string;
  /** Known when the node is one of this project. */
  readonly nodeName?: string;
}
