import type { Feeds, Logger } from '@nex-nix/nexlet';
import type { NatsConnectionData, StartWorkloadRequest, WorkloadSummary } from '@nex-nix/protocol';
import type { Runtime, Usage } from '@nex-nix/sandbox';
import type { Tenant } from '../bid-terms.ts';
import type { WorkloadImage } from '../closure/workload-image.ts';
import type { WorkloadPlan } from '../request/workload-plan.ts';
import type { WorkloadRecords } from './workload-record.ts';

/** What a workload is made of. */
export interface WorkloadParts {
  readonly id: string;
  readonly request: StartWorkloadRequest;
  readonly plan: WorkloadPlan;
  readonly image: WorkloadImage;
  readonly runtime: Runtime;
  readonly records: WorkloadRecords;
  readonly feeds: Feeds;
  readonly logger: Logger;
  /** Keeps its closure in the node's store until it is disposed of. */
  readonly hold: () => Disposable;
  /** Called once its request is accepted. */
  readonly onAccepted: () => void;
}

/** A workload of any lifecycle, as the nexlet deals with it. */
export interface ManagedWorkload {
  readonly id: string;
  readonly request: StartWorkloadRequest;
  /** Whether its last sandbox has ended, or none ever came to be, and none will follow. */
  readonly finished: boolean;
  /** Whether it is a job whose program was started: it must not be taken for one that never ran. */
  readonly hasRun: boolean;
  /** When it ended, in milliseconds of the Unix epoch; undefined while it has not. */
  readonly endTime: number | undefined;
  /** Whether it vanished, as with a crash of the machine, rather than ended. */
  readonly lost: boolean;
  /** What bids depend on; undefined when it takes no more room. */
  readonly tenant: Tenant | undefined;
  summary(): WorkloadSummary;
  /** What all that runs of it uses now; undefined while nothing does. */
  usage(): Promise<Usage | undefined>;
  /** Resolves when the request is accepted; the rest happens in the background. A rejection refuses the workload. */
  launch(credentials: NatsConnectionData): Promise<void>;
  /** Gives it new credentials, for what runs and for what is started later. */
  renew(credentials: NatsConnectionData): Promise<void>;
  /**
   * Ends the workload; resolves when nothing of it is alive and nothing of it is left, but for its end when that is to be
   * kept. May be called again after it failed.
   */
  stop(options?: { keepEnd?: boolean }): Promise<void>;
  /** Removes what is remembered of its end. */
  forget(): Promise<void>;
  /** Lets go of the workload without ending it, where that is possible; a later nexlet adopts it from its record. */
  release(): Promise<void>;
}
