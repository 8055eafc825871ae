import { jetstream, type JetStreamManager, jetstreamManager } from '@nats-io/jetstream';
import { type KV, type KvEntry, Kvm } from '@nats-io/kv';
import { errors, type NatsConnection } from '@nats-io/nats-core';
import type { Static, TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { ControllerError } from '../controller-error.ts';
import { isNoMessage, isNoStream, isStreamNameInUse, isUnserved, isWrongRevision, storeError } from './store-errors.ts';

/** How long JetStream may take to answer, in milliseconds. */
const REQUEST_TIMEOUT = 5_000;
/**
 * The same for what may be asked for twice, and how often it is: nats-server 2.9 does not answer some that come while a
 * stream is being made, and a cluster some that come while it finds out that one of its servers is gone.
 */
const READ_TIMEOUT = 2_000;
const MAX_TRIES = 5;
/** Keys that are read at once. */
const READ_WINDOW = 16;

export interface BucketOptions<S extends TSchema> {
  /** Of the bucket. */
  name: string;
  schema: S;
  /** After this time a value is gone, in milliseconds. Default: never. */
  ttlMs?: number;
  /** How long JetStream may take to answer, in milliseconds. Default 5 s. */
  timeoutMs?: number;
  /** Copies in a cluster, when this call makes the bucket. Default 1. */
  replicas?: number | undefined;
}

/** A value, and the revision that a change of it has to name. */
export interface Entry<T> {
  readonly value: T;
  readonly revision: number;
}

interface Opened {
  readonly kv: KV;
  readonly reader: KV;
  readonly jsm: JetStreamManager;
}

/**
 * A JetStream key-value bucket of JSON values of one form. Every change is a compare-and-set. The bucket is made at the
 * first write, and again when it was lost; reads come from the leader of its stream.
 */
export class JsonBucket<S extends TSchema> {
  readonly name: string;
  readonly #nc: NatsConnection;
  readonly #schema: S;
  readonly #timeout: number;
  readonly #options: { history: number; replicas: number; ttl?: number };
  #opened: Promise<Opened> | undefined;
  #made: Promise<unknown> | undefined;

  constructor(
    nc: NatsConnection,
    { name, schema, ttlMs, timeoutMs = REQUEST_TIMEOUT, replicas = 1 }: BucketOptions<S>,
  ) {
    this.name = name;
    this.#nc = nc;
    this.#schema = schema;
    this.#timeout = timeoutMs;
    this.#options = { history: 1, replicas, ...(ttlMs === undefined ? {} : { ttl: ttlMs }) };
  }

  /** The subject on which changes of keys can be heard by anybody in the account. */
  subject(key = '>'): string {
    return `$KV.${this.name}.${key}`;
  }

  /** @throws {ControllerError} DEPLOYMENT_UNREADABLE, CONTROLLER_… */
  async get(key: string): Promise<Entry<Static<S>> | undefined> {
    return this.#attempt(`read "${key}"`, async () => this.#read(key));
  }

  /** The value of each key. Keys whose value cannot be read are in `unreadable`. */
  async all(): Promise<{ entries: Map<string, Entry<Static<S>>>; unreadable: ControllerError[] }> {
    const entries = new Map<string, Entry<Static<S>>>();
    const unreadable: ControllerError[] = [];
    const keys = await this.#attempt('list', () => this.#keys());
    for (let at = 0; at < keys.length; at += READ_WINDOW) {
      await Promise.all(
        keys.slice(at, at + READ_WINDOW).map(async (key) => {
          try {
            const entry = await this.get(key);
            if (entry !== undefined) entries.set(key, entry);
          } catch (error) {
            if (!(error instanceof ControllerError) || error.code !== 'DEPLOYMENT_UNREADABLE') throw error;
            unreadable.push(error);
          }
        }),
      );
    }
    return { entries, unreadable };
  }

  /**
   * Writes a value in the place of the one that has `revision`; 0: where there is none. Returns the new revision;
   * undefined when there is another value by now.
   */
  async set(key: string, value: Static<S>, revision: number): Promise<number | undefined> {
    const text = JSON.stringify(value);
    return this.#attempt(`write "${key}"`, async () => {
      const { kv } = await this.#open();
      const write = () => (revision === 0 ? kv.create(key, text) : kv.update(key, text, revision));
      try {
        await this.#make();
        return await write();
      } catch (error) {
        if (isWrongRevision(error)) return undefined;
        // The bucket may be lost: it is looked for, and made, before the next write.
        this.#made = undefined;
        if (!isUnserved(error) && !isNoStream(error)) throw error;
        await this.#make();
        return write();
      }
    });
  }

  /** Takes away the value that has this revision, leaving no trace; false when there is another one by now. */
  async remove(key: string, revision: number): Promise<boolean> {
    return this.#attempt(`remove "${key}"`, async () => {
      const { jsm } = await this.#open();
      try {
        return await jsm.streams.deleteMessage(`KV_${this.name}`, revision, false);
      } catch (error) {
        if (isNoMessage(error) || isNoStream(error)) return false;
        throw error;
      }
    });
  }

  /** Puts a mark in the place of the value that has this revision, which whoever listens hears. */
  async release(key: string, revision: number): Promise<void> {
    await this.#attempt(`give up "${key}"`, async () => {
      const { kv } = await this.#open();
      await kv.delete(key, { previousSeq: revision });
    });
  }

  /** The value of a key now and after each change, until `signal` is aborted; undefined when there is none. */
  async *watch(key: string, signal: AbortSignal): AsyncGenerator<Entry<Static<S>> | undefined> {
    await this.#attempt('open', () => this.#make());
    const { reader } = await this.#open();
    const first = await this.get(key);
    yield first;
    const watch = await this.#attempt(`watch "${key}"`, () => answered(() => reader.watch({ key })));
    const stop = () => watch.stop();
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    try {
      for await (const entry of watch) {
        if (entry.revision > (first?.revision ?? 0)) yield this.#parse(key, entry);
      }
    } finally {
      signal.removeEventListener('abort', stop);
      watch.stop();
    }
  }

  /** The life time of values, in milliseconds, as the bucket has it; 0: none. Makes the bucket. */
  async ttl(): Promise<number> {
    return this.#attempt('open', async () => {
      this.#made = undefined;
      await this.#make();
      const { jsm } = await this.#open();
      return (await jsm.streams.info(`KV_${this.name}`)).config.max_age / 1e6;
    });
  }

  async #read(key: string): Promise<Entry<Static<S>> | undefined> {
    const { reader } = await this.#open();
    try {
      const entry = await answered(() => reader.get(key));
      return entry === null ? undefined : this.#parse(key, entry);
    } catch (error) {
      if (isNoStream(error)) return undefined;
      throw error;
    }
  }

  async #keys(): Promise<string[]> {
    const { jsm } = await this.#open();
    try {
      const { state } = await jsm.streams.info(`KV_${this.name}`, { subjects_filter: this.subject() });
      return Object.keys(state.subjects ?? {}).map((subject) => subject.slice(this.subject('').length));
    } catch (error) {
      if (isNoStream(error)) return [];
      throw error;
    }
  }

  #parse(key: string, entry: KvEntry): Entry<Static<S>> | undefined {
    if (entry.operation !== 'PUT') return undefined;
    const complaint = (why: string, cause?: unknown) =>
      new ControllerError('DEPLOYMENT_UNREADABLE', `Cannot read "${key}" of the bucket "${this.name}": ${why}`, {
        cause,
        hint: 'It was written by another version, or by hand',
      });
    let value: unknown;
    try {
      value = entry.json();
    } catch (cause) {
      throw complaint('it is not JSON', cause);
    }
    if (Value.Check(this.#schema, value)) return { value, revision: entry.revision };
    const [issue] = Value.Errors(this.#schema, value);
    throw complaint(`${issue?.instancePath ?? ''} ${issue?.message ?? 'does not fit'}`.trim());
  }

  #open(): Promise<Opened> {
    this.#opened ??= this.#connect().catch((error: unknown) => {
      this.#opened = undefined;
      throw error;
    });
    return this.#opened;
  }

  async #connect(): Promise<Opened> {
    const options = { timeout: this.#timeout };
    const [kv, reader, jsm] = await Promise.all([
      new Kvm(jetstream(this.#nc, options)).open(this.name),
      new Kvm(jetstream(this.#nc, { timeout: Math.min(READ_TIMEOUT, this.#timeout) })).open(this.name),
      jetstreamManager(this.#nc, { ...options, checkAPI: false }),
    ]);
    return { kv, reader, jsm };
  }

  /** Makes the bucket, unless it is there. @throws {ControllerError} CONTROLLER_… */
  async ensure(): Promise<void> {
    await this.#attempt('begin', () => this.#make());
  }

  #make(): Promise<unknown> {
    this.#made ??= this.#create().catch((error: unknown) => {
      this.#made = undefined;
      throw error;
    });
    return this.#made;
  }

  async #create(): Promise<void> {
    const kvm = new Kvm(jetstream(this.#nc, { timeout: this.#timeout }));
    try {
      await answered(() => kvm.create(this.name, this.#options));
    } catch (error) {
      // Somebody else was faster, with other options: theirs are as good.
      if (!isStreamNameInUse(error)) throw error;
    }
  }

  async #attempt<T>(action: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw storeError(error, `Cannot ${action} in the bucket "${this.name}"`);
    }
  }
}

/** Asks again when there is no answer. */
async function answered<T>(ask: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof errors.TimeoutError) || tries === MAX_TRIES) throw error;
    }
  }
}
