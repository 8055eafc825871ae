import type { DesiredWorkload } from './desired-workload.ts';

/**
 * What a node is to run, kept outside of it. Reading is from memory; there is one writer, the node itself.
 *
 * A workload that was removed stays known as such for a day, so that one that turns up after its stop is recognised.
 */
export interface DesiredState {
  all(): DesiredWorkload[];
  get(id: string): DesiredWorkload | undefined;
  /** Whether the workload was removed, within the last day. */
  isRemoved(id: string): boolean;
  /**
   * Resolves when it is stored. When that fails the change holds in memory nevertheless, and {@link flush} stores it later.
   *
   * @throws {NodeError} NODE_STATE_UNAVAILABLE
   */
  put(workload: DesiredWorkload): Promise<void>;
  /** As {@link put}. The workload need not be here. */
  remove(id: string, type: string): Promise<void>;
  /** Stores what could not be stored before, and forgets removals that are a day old. Never rejects. */
  flush(): Promise<void>;
}

/** Keeps nothing: what runs is known to the nexlets alone, as in Nex without `--state`. */
export const NO_STATE: DesiredState = {
  all: () => [],
  get: () => undefined,
  isRemoved: () => false,
  put: async () => undefined,
  remove: async () => undefined,
  flush: async () => undefined,
};
