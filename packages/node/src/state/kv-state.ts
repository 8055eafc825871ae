import { type JetStreamClient, type JetStreamManager, JetStreamApiError, type StoredMsg } from '@nats-io/jetstream';
import { type KV, Kvm } from '@nats-io/kv';
import type { Logger } from '@nex-nix/nexlet';
import { ProtocolError } from '@nex-nix/protocol';
import { NodeError } from '../node-error.ts';
import type { DesiredState } from './desired-state.ts';
import { decodeEntry, type DesiredWorkload, encodeEntry, entryKey, idOfKey } from './desired-workload.ts';

/** How long a removed workload is recognised, in milliseconds. */
const REMEMBER_REMOVED = 24 * 3_600_000;
/** Size of the bucket where an account insists on one, in bytes; that of Go's. */
const BOUNDED = 100_000_000;

const READS_AT_ONCE = 32;
/** Present on the message of a removed key. */
const OPERATION_HEADER = 'KV-Operation';

/** JetStream error codes, from the server's `errors.json`. */
const NO_MESSAGE_FOUND = 10037;
const STREAM_NOT_FOUND = 10059;
const MAX_BYTES_REQUIRED = 10113;

interface Removed {
  readonly key: string;
  readonly time: number;
}

/**
 * Desired state in the KV bucket `nex-<node id>`, where Go nodes keep theirs, and in their form. A removed entry leaves a
 * KV delete marker, which Go reads as nothing.
 */
export class KvState implements DesiredState {
  readonly #kvm: Kvm;
  readonly #jsm: JetStreamManager;
  readonly #bucket: string;
  readonly #replicas: number;
  readonly #logger: Logger;
  #kv: KV;
  readonly #workloads = new Map<string, DesiredWorkload>();
  readonly #removed = new Map<string, Removed>();
  /** By id: the key of what memory knows and the bucket does not. */
  readonly #unsaved = new Map<string, string>();
  /** By id: the write under way, and those that wait for it. */
  readonly #writes = new Map<string, Promise<void>>();

  private constructor(parts: {
    kvm: Kvm;
    kv: KV;
    jsm: JetStreamManager;
    bucket: string;
    replicas: number;
    logger: Logger;
  }) {
    this.#kvm = parts.kvm;
    this.#kv = parts.kv;
    this.#jsm = parts.jsm;
    this.#bucket = parts.bucket;
    this.#replicas = parts.replicas;
    this.#logger = parts.logger;
  }

  /** Opens the bucket of a node, or makes it, and reads it. Throws what JetStream throws. */
  static async open(
    js: JetStreamClient,
    { nodeId, logger, replicas = 1 }: { nodeId: string; logger: Logger; replicas?: number },
  ): Promise<KvState> {
    const kvm = new Kvm(js);
    const jsm = await js.jetstreamManager();
    const bucket = `nex-${nodeId}`;
    const state = new KvState({ kvm, kv: await openBucket(kvm, bucket, replicas), jsm, bucket, replicas, logger });
    await allowLargeEntries(jsm, bucket);
    await state.#readAll();
    return state;
  }

  get #prefix(): string {
    return `$KV.${this.#bucket}.`;
  }

  all(): DesiredWorkload[] {
    return [...this.#workloads.values()];
  }

  get(id: string): DesiredWorkload | undefined {
    return this.#workloads.get(id);
  }

  isRemoved(id: string): boolean {
    return this.#removed.has(id);
  }

  async put(workload: DesiredWorkload): Promise<void> {
    this.#workloads.set(workload.id, workload);
    this.#removed.delete(workload.id);
    await this.#save(workload.id, keyOf(workload));
  }

  async remove(id: string, type: string): Promise<void> {
    const key = entryKey(id, type);
    this.#workloads.delete(id);
    this.#removed.set(id, { key, time: Date.now() });
    await this.#save(id, key);
  }

  async flush(): Promise<void> {
    for (const [id, key] of this.#unsaved) {
      try {
        await this.#save(id, key);
      } catch (error) {
        this.#logger.warn({ err: error, unsaved: this.#unsaved.size }, 'desired state is still not stored');
        return;
      }
    }
    await this.#expire();
  }

  /** Message by message: a consumer that ends early, or never, would leave a part out, which might be started twice. */
  async #readAll(): Promise<void> {
    const stream = streamOf(this.#bucket);
    const { state } = await this.#jsm.streams.info(stream, { subjects_filter: `${this.#prefix}>` });
    const subjects = Object.keys(state.subjects ?? {});
    while (subjects.length > 0) {
      const reads = subjects.splice(0, READS_AT_ONCE).map((subject) => this.#lastOf(stream, subject));
      for (const message of await Promise.all(reads)) if (message !== undefined) this.#read(message);
    }
  }

  async #lastOf(stream: string, subject: string): Promise<StoredMsg | undefined> {
    try {
      return (await this.#jsm.streams.getMessage(stream, { last_by_subj: subject })) ?? undefined;
    } catch (error) {
      if (hasCode(error, NO_MESSAGE_FOUND)) return undefined;
      throw error;
    }
  }

  #read({ subject, header, data, time }: StoredMsg): void {
    const key = subject.slice(this.#prefix.length);
    // A marker of its removal.
    if (header?.has(OPERATION_HEADER)) {
      this.#removed.set(idOfKey(key), { key, time: time.getTime() });
      return;
    }
    try {
      const workload = decodeEntry(key, data, time);
      this.#workloads.set(workload.id, workload);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#logger.error({ err: error, bucket: this.#bucket, key }, `a state entry is passed over: ${error.message}`);
    }
  }

  /** Writes what memory knows of a workload; one write of an id at a time, so that the last one is the latest. */
  async #save(id: string, key: string): Promise<void> {
    this.#unsaved.set(id, key);
    const write = this.#writeAfter(this.#writes.get(id), id, key);
    this.#writes.set(id, write);
    try {
      await write;
    } catch (cause) {
      const message = `Cannot store the desired state of workload "${id}" in bucket "${this.#bucket}"`;
      throw new NodeError('NODE_STATE_UNAVAILABLE', `${message}: ${reasonOf(cause)}`, {
        cause,
        hint: 'See whether JetStream answers: nats kv ls',
      });
    } finally {
      if (this.#writes.get(id) === write) this.#writes.delete(id);
    }
  }

  async #writeAfter(earlier: Promise<void> | undefined, id: string, key: string): Promise<void> {
    // Its failure was told to whoever asked for it; what it could not write is written now.
    await earlier?.catch(() => undefined);
    const workload = this.#workloads.get(id);
    await this.#inBucket((kv) => (workload === undefined ? kv.delete(key) : kv.put(key, encodeEntry(workload))));
    if (this.#workloads.get(id) === workload) this.#unsaved.delete(id);
  }

  /** A bucket that somebody deleted is made again, and filled with what memory knows. */
  async #inBucket(write: (kv: KV) => Promise<unknown>): Promise<void> {
    try {
      await write(this.#kv);
    } catch (error) {
      if (!(await this.#isGone())) throw error;
      this.#kv = await openBucket(this.#kvm, this.#bucket, this.#replicas);
      this.#logger.error({ bucket: this.#bucket }, 'the bucket of the desired state was gone; it is written again');
      for (const workload of this.#workloads.values()) await this.#kv.put(keyOf(workload), encodeEntry(workload));
      await write(this.#kv);
    }
  }

  async #isGone(): Promise<boolean> {
    try {
      await this.#jsm.streams.info(streamOf(this.#bucket));
      return false;
    } catch (error) {
      return hasCode(error, STREAM_NOT_FOUND);
    }
  }

  async #expire(): Promise<void> {
    const limit = Date.now() - REMEMBER_REMOVED;
    for (const [id, { key, time }] of this.#removed) {
      if (time > limit || this.#unsaved.has(id)) continue;
      try {
        await this.#jsm.streams.purge(streamOf(this.#bucket), { filter: `${this.#prefix}${key}` });
      } catch (error) {
        this.#logger.warn({ err: error, key }, 'an old state entry could not be cleared away');
        return;
      }
      this.#removed.delete(id);
    }
  }
}

function keyOf({ id, request }: DesiredWorkload): string {
  return entryKey(id, request.workload_type);
}

function streamOf(bucket: string): string {
  return `KV_${bucket}`;
}

async function openBucket(kvm: Kvm, bucket: string, replicas: number): Promise<KV> {
  const options = { history: 1, replicas, description: 'Desired state of a Nex node' };
  try {
    return await kvm.create(bucket, options);
  } catch (error) {
    if (!hasCode(error, MAX_BYTES_REQUIRED)) throw error;
    return await kvm.create(bucket, { ...options, max_bytes: BOUNDED });
  }
}

/** Go's bucket takes no value over 10 000 bytes. */
async function allowLargeEntries(jsm: JetStreamManager, bucket: string): Promise<void> {
  const { config } = await jsm.streams.info(streamOf(bucket));
  if (config.max_msg_size > 0) await jsm.streams.update(streamOf(bucket), { ...config, max_msg_size: -1 });
}

function hasCode(error: unknown, code: number): boolean {
  return error instanceof JetStreamApiError && error.code === code;
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
