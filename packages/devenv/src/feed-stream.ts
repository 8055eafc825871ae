import {
  DiscardPolicy,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  JetStreamApiCodes,
  JetStreamApiError,
} from '@nats-io/jetstream';
import { nanos, type NatsConnection } from '@nats-io/nats-core';
import { DevError } from './dev-error.ts';

export const FEED_STREAM = 'NEX_FEED';

const WEEK_MS = 7 * 24 * 3600 * 1000;
const GIB = 1024 ** 3;

/** Makes the stream that keeps logs and events, unless it exists; an existing one is left as it is. Returns whether it was made. */
export async function ensureFeedStream(nc: NatsConnection): Promise<boolean> {
  try {
    const manager = await jetstreamManager(nc);
    if (await exists(manager)) return false;
    await manager.streams.add({
      name: FEED_STREAM,
      description: 'Logs and events of workloads',
      subjects: ['$NEX.FEED.*.logs.>', '$NEX.FEED.*.events.>'],
      retention: RetentionPolicy.Limits,
      discard: DiscardPolicy.Old,
      storage: StorageType.File,
      max_age: nanos(WEEK_MS),
      max_bytes: GIB,
    });
    return true;
  } catch (cause) {
    throw new DevError('DEVENV_STREAM_FAILED', `Cannot make the stream "${FEED_STREAM}": ${(cause as Error).message}`, {
      cause,
    });
  }
}

async function exists(manager: Awaited<ReturnType<typeof jetstreamManager>>): Promise<boolean> {
  try {
    await manager.streams.info(FEED_STREAM);
    return true;
  } catch (error) {
    if (error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound) return false;
    throw error;
  }
}
