import { DiscardPolicy, RetentionPolicy, StorageType, type StreamConfig } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import { nanos } from '@nats-io/nats-core';
import type { JetStream } from './jetstream.ts';
import {
  ALIAS_BUCKET,
  CARE_BUCKET,
  CHUNK_STREAM,
  CHUNK_SUBJECTS,
  LOG_BUCKET,
  MANIFEST_STREAM,
  MANIFEST_SUBJECTS,
  NARINFO_BUCKET,
  PIN_BUCKET,
  STORED_SUBJECTS,
} from './layout.ts';
import { isNoStream, isNotEnabled, isStreamNameInUse, noJetStream, toCacheError } from './nats-errors.ts';

/** How streams are made. Streams that exist keep the settings they have. */
export interface StorageOptions {
  /** Copies of each message in a cluster. @default 1 */
  replicas?: number | undefined;
  /** Where JetStream keeps them. @default 'file' */
  storage?: 'file' | 'memory' | undefined;
  /** Bound of the stored chunks in bytes; a push beyond it fails with `CACHE_STORAGE_FULL`. @default none */
  maxBytes?: number | undefined;
}

/** Bound of manifests and of narinfos when `maxBytes` bounds the chunks: one in 64 is more than they ever need. */
const INDEX_SHARE = 64;
/** A Nix client asks for what it uploaded by the name it gave it for this long: its `narinfo-cache-positive-ttl`. */
const ALIAS_LIFE_MS = 30 * 24 * 3600 * 1000;
const LOG_LIFE_MS = 365 * 24 * 3600 * 1000;
/** The shortest there is: chunks are told apart by subject, not by message id. */
const DUPLICATE_WINDOW_MS = 100;

/** Makes the streams of the cache that do not exist yet. Several services may do so at once. */
export async function createStreams(jetstream: JetStream, options: StorageOptions): Promise<void> {
  const action = 'open the cache';
  const { replicas = 1, storage = 'file', maxBytes } = options;
  const indexBytes = maxBytes === undefined ? undefined : Math.ceil(maxBytes / INDEX_SHARE);
  try {
    await createStream(jetstream, {
      ...contentStream(options, maxBytes),
      name: CHUNK_STREAM,
      subjects: [CHUNK_SUBJECTS],
      republish: { src: CHUNK_SUBJECTS, dest: STORED_SUBJECTS, headers_only: true },
    });
    await createStream(jetstream, {
      ...contentStream(options, indexBytes),
      name: MANIFEST_STREAM,
      subjects: [MANIFEST_SUBJECTS],
    });
    const bucket = {
      history: 1,
      replicas,
      storage: storage === 'file' ? StorageType.File : StorageType.Memory,
      ...(indexBytes === undefined ? {} : { max_bytes: indexBytes }),
    };
    for (const name of [NARINFO_BUCKET, PIN_BUCKET, CARE_BUCKET]) await new Kvm(jetstream.nc).create(name, bucket);
    await new Kvm(jetstream.nc).create(ALIAS_BUCKET, { ...bucket, ttl: ALIAS_LIFE_MS });
    await new Kvm(jetstream.nc).create(LOG_BUCKET, { ...bucket, ttl: LOG_LIFE_MS });
  } catch (error) {
    if (isNotEnabled(error)) throw noJetStream(error, action, jetstream.nc);
    throw toCacheError(error, action, jetstream.nc);
  }
}

/** A stream of immutable messages, one a subject. */
function contentStream({ replicas = 1, storage = 'file' }: StorageOptions, maxBytes: number | undefined) {
  return {
    retention: RetentionPolicy.Limits,
    storage: storage === 'file' ? StorageType.File : StorageType.Memory,
    num_replicas: replicas,
    max_msgs_per_subject: 1,
    // What is stored stays: a full stream refuses, it never tears a hole into a closure.
    discard: DiscardPolicy.New,
    discard_new_per_subject: true,
    allow_direct: true,
    duplicate_window: nanos(DUPLICATE_WINDOW_MS),
    ...(maxBytes === undefined ? {} : { max_bytes: maxBytes }),
  } satisfies Partial<StreamConfig>;
}

async function createStream({ jsm }: JetStream, config: Partial<StreamConfig> & { name: string }): Promise<void> {
  try {
    await jsm.streams.info(config.name);
    return;
  } catch (error) {
    if (!isNoStream(error)) throw error;
  }
  try {
    await jsm.streams.add(config);
  } catch (error) {
    // Another service was faster, with other settings: its are as good.
    if (!isStreamNameInUse(error)) throw error;
  }
}
