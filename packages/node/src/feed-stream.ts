import {
  DiscardPolicy,
  jetstreamManager,
  type JetStreamManager,
  RetentionPolicy,
  StorageType,
  JetStreamApiCodes,
  JetStreamApiError,
} from '@nats-io/jetstream';
import { nanos, type NatsConnection } from '@nats-io/nats-core';
import { FEED_STREAM } from '@nex-nix/protocol';
import { NodeError } from './node-error.ts';

/** Error code of JetStream's API (JSStorageResourcesExceededErr in the server's errors.json). */
const INSUFFICIENT_STORAGE = 10047;
const WEEK_MS = 7 * 24 * 3600 * 1000;
const MIB = 2 ** 20;
/** JetStream sets the space aside when the stream is made, so on a small disk it has to be less. */
const SIZES = [1024 * MIB, 64 * MIB];

/** Makes the stream that keeps logs and events, with so many copies in a cluster, unless it exists; an existing one is left as it is. Returns whether it was made. */
export async function ensureFeedStream(
  nc: NatsConnection,
  { replicas = 1 }: { replicas?: number } = {},
): Promise<boolean> {
  try {
    const manager = await jetstreamManager(nc);
    if (await exists(manager)) return false;
    await addStream(manager, { sizes: SIZES, replicas });
    return true;
  } catch (cause) {
    throw new NodeError('NODE_STREAM_FAILED', `Cannot make the stream "${FEED_STREAM}": ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** Makes the stream with the first of `sizes` that the server has room for. */
async function addStream(
  manager: JetStreamManager,
  { sizes: [size, ...smaller], replicas }: { sizes: readonly number[]; replicas: number },
): Promise<void> {
  try {
    await manager.streams.add({
      name: FEED_STREAM,
      description: 'Logs and events of workloads',
      subjects: ['$NEX.FEED.*.logs.>', '$NEX.FEED.*.events.>'],
      retention: RetentionPolicy.Limits,
      discard: DiscardPolicy.Old,
      storage: StorageType.File,
      num_replicas: replicas,
      max_age: nanos(WEEK_MS),
      max_bytes: size,
      // Nexlets that were killed ask which line of a workload was the last one.
      allow_direct: true,
    });
  } catch (error) {
    const isFull = error instanceof JetStreamApiError && error.code === INSUFFICIENT_STORAGE;
    if (!isFull || smaller.length === 0) throw error;
    await addStream(manager, { sizes: smaller, replicas });
  }
}

async function exists(manager: JetStreamManager): Promise<boolean> {
  try {
    await manager.streams.info(FEED_STREAM);
    return true;
  } catch (error) {
    if (error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound) return false;
    throw error;
  }
}
