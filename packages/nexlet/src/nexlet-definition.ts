import type { KeyPair } from '@nats-io/nkeys';
import type {
  AuctionRequest,
  BidTerms,
  Lifecycle,
  NatsConnectionData,
  StartWorkloadRequest,
  WorkloadSummary,
} from '@nex-nix/protocol';
import type { Feeds } from './feeds.ts';
import { NexletError } from './nexlet-error.ts';

/** What a nexlet gets to start one workload. */
export interface StartContext {
  readonly workloadId: string;
  readonly request: StartWorkloadRequest;
  /** `request.run_request`, parsed. The node has checked it against the schema, unless `existing`. */
  readonly runRequest: unknown;
  /** For the workload itself: who it is on NATS. */
  readonly credentials: NatsConnectionData;
  /**
   * The node says that this nexlet should be running it already, and nothing of that id is alive in its list: what is
   * alive gets `renew` instead. The same id may come again.
   */
  readonly existing: boolean;
  readonly feeds: Feeds;
  /** Curve key of this nexlet: opens what was sealed for it (`openEnvironment` of `@nex-nix/protocol`). */
  readonly xkey: KeyPair;
}

/**
 * A nexlet: what it can run, and the functions that run it. They are called concurrently; what they throw is answered
 * as the error of the request, nothing else ends.
 */
export interface NexletDefinition {
  /** Also the name of its micro service: `[A-Za-z0-9_-]+`. */
  readonly name: string;
  /** The workload type it serves. */
  readonly type: string;
  /** Semantic version. */
  readonly version: string;
  readonly description?: string;
  readonly lifecycles: readonly Lifecycle[];
  /** JSON Schema of `run_request`, in a form that draft-07 and 2020-12 validators take. */
  readonly startRequestSchema: object;
  /** Default: no limit. */
  readonly maxWorkloads?: number;
  /** Seed of its curve key (`SX…`), for what is sealed for it to be readable after a restart. Default: a new key each time. */
  readonly xkeySeed?: string;
  /**
   * Called once, connected and before the first request: e.g. to adopt what an earlier process left running. The feeds
   * are the same as those of each start, and go on working whatever node the nexlet is at.
   */
  ready?(feeds: Feeds, xkey: KeyPair): Promise<void>;
  /** Resolves when the request is accepted; the workload may still be starting. */
  start(context: StartContext): Promise<{ id: string; name: string }>;
  /** Resolves when nothing of the workload is alive; false when it is unknown here. */
  stop(id: string, options: { namespace: string }): Promise<boolean>;
  /**
   * The start request of a workload. With `newTargetXkey` it is for another nexlet to start: what is sealed for this one
   * is to be sealed for that key.
   */
  get(id: string, options?: { newTargetXkey?: string }): Promise<StartWorkloadRequest | undefined>;
  /** May return more than asked for: the SDK filters. Every summary should name its namespace. */
  list(options: { namespace: string; filter: readonly string[] }): Promise<WorkloadSummary[]>;
  /** The node takes no more workloads and ends after `delayMs`. */
  lameduck?(delayMs: number): Promise<void>;
  /**
   * What the node is to bid, or why nothing, in an auction that its tags and limits let it take part in. Asked of nexlets
   * whose node is of this project, within 300 ms. Default: to bid.
   */
  bid?(auction: AuctionRequest): Promise<BidTerms>;
  /**
   * New credentials for a workload that is alive; the ones it has hold for a while yet. Comes each time the nexlet
   * registers again, which it does when its own credentials get old, from nodes that keep what they run.
   */
  renew?(id: string, credentials: NatsConnectionData): Promise<void>;
  /** What somebody publishes for this nexlet on `$NEX.FEED.<nexlet>.events`: JSON, or its text when it is none. */
  onEvent?(event: unknown): Promise<void>;
  /** The nexlet ends. */
  close?(): Promise<void>;
}

const SEMVER = /^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$/;

/** @throws {NexletError} NEXLET_DEFINITION_INVALID */
export function checkDefinition({ name, type, version }: NexletDefinition): void {
  const complaint = complaintAbout(name, type, version);
  if (complaint !== undefined) {
    throw new NexletError('NEXLET_DEFINITION_INVALID', `Cannot run nexlet "${name}": ${complaint}`);
  }
}

function complaintAbout(name: string, type: string, version: string): string | undefined {
  if (!/^[\w-]+$/.test(name)) return 'its name has characters other than letters, digits, "_" and "-"';
  if (type === '') return 'it names no workload type';
  return SEMVER.test(version) ? undefined : `its version "${version}" is not a semantic version`;
}
