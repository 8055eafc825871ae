import { setTimeout as delay } from 'node:timers/promises';
import { headers, type Msg, type NatsConnection, type Subscription } from '@nats-io/nats-core';
import { type NatsConnectionData, ProtocolError, subjectToken } from '@nex-nix/protocol';
import { closeConnection, connectWith } from './connect-with.ts';
import { type Logger, silentLogger } from './logger.ts';
import { NexletError } from './nexlet-error.ts';

const CONCURRENCY = 16;
/** What a reply needs beside its data, its headers included, in bytes; headers of an error are cut to fit. */
const REPLY_OVERHEAD = 4096;
const MAX_ERROR = 1024;
/** How long the server may take to end the subscriptions, in milliseconds. */
const DRAIN_TIMEOUT = 500;

/** One message that triggers a function. */
export interface Invocation {
  readonly subject: string;
  readonly data: Uint8Array;
  readonly headers: ReadonlyMap<string, readonly string[]>;
  /** Bytes that a reply may have: the server takes no more. */
  readonly maxReply: number;
}

/** Runs a function once; its result is the reply. What it throws is answered. `signal` is aborted at the end. */
export type TriggerHandler = (invocation: Invocation, signal: AbortSignal) => Promise<Uint8Array | string | undefined>;

export interface ServeTriggersOptions {
  workloadId: string;
  namespace: string;
  /** Name of the workload: those of one name and namespace share the messages. */
  name: string;
  /** What triggers it; may have wildcards. */
  subjects: readonly string[];
  handler: TriggerHandler;
  /** How many messages are handled at once; more wait. @default 16 */
  concurrency?: number;
  /** How many may wait; what comes beyond is answered with an error at once. @default no limit */
  maxWaiting?: number;
  logger?: Logger;
  /** Ends the start; what runs ends by being disposed. */
  signal?: AbortSignal;
}

/** Triggers of one workload. Disposing them takes no more messages and waits for those under way. */
export interface Triggers extends AsyncDisposable {
  /** Credentials for the next time that the server asks for some. */
  renew(credentials: NatsConnectionData): void;
  /** Resolves when they have ended: with the reason when the server takes a subject away, with undefined when disposed. */
  readonly closed: Promise<NexletError | undefined>;
}

/**
 * Has a function triggered by messages, with the credentials of its workload. Replies carry headers `workload_id`,
 * `namespace` and, on failure, `error`, as in Nex 0.4; unlike there, of the workloads of one name each message triggers one.
 *
 * @throws {NexletError} NEXLET_TRIGGER_INVALID, NEXLET_TRIGGER_REFUSED, NEXLET_NATS_UNREACHABLE, NEXLET_NATS_REFUSED
 */
export async function serveTriggers(credentials: NatsConnectionData, options: ServeTriggersOptions): Promise<Triggers> {
  const { namespace, name, subjects, signal } = options;
  const queue = queueOf(namespace, name);
  for (const subject of subjects) checkSubject(subject, name);
  const served = new ServedTriggers(options);
  const nc = await connectWith(() => served.credentials ?? credentials, { signal });
  try {
    await served.subscribe(nc, queue);
    signal?.throwIfAborted();
  } catch (error) {
    await served[Symbol.asyncDispose]();
    throw error;
  }
  return served;
}

class ServedTriggers implements Triggers {
  readonly closed: Promise<NexletError | undefined>;
  credentials: NatsConnectionData | undefined;
  readonly #options: ServeTriggersOptions;
  readonly #logger: Logger;
  readonly #abort = new AbortController();
  readonly #ended = Promise.withResolvers<NexletError | undefined>();
  readonly #subscriptions: Subscription[] = [];
  readonly #waiting: Msg[] = [];
  readonly #running = new Set<Promise<void>>();
  #nc: NatsConnection | undefined;
  #refusal: NexletError | undefined;
  #disposed: Promise<void> | undefined;

  constructor(options: ServeTriggersOptions) {
    this.#options = options;
    this.#logger = (options.logger ?? silentLogger).child({
      workloadId: options.workloadId,
      namespace: options.namespace,
    });
    this.closed = this.#ended.promise;
  }

  renew(credentials: NatsConnectionData): void {
    this.credentials = credentials;
  }

  async subscribe(nc: NatsConnection, queue: string): Promise<void> {
    this.#nc = nc;
    for (const subject of this.#options.subjects) {
      this.#subscriptions.push(
        nc.subscribe(subject, {
          queue,
          callback: (error, msg) => (error === null ? this.#accept(msg) : this.#refuse(subject, error)),
        }),
      );
    }
    await nc.flush();
    if (this.#refusal !== undefined) throw this.#refusal;
  }

  #refuse(subject: string, cause: Error): void {
    const message = `Cannot trigger workload "${this.#options.name}" by "${subject}": its credentials do not allow to subscribe to it`;
    this.#refusal = new NexletError('NEXLET_TRIGGER_REFUSED', message, {
      cause,
      hint: 'Let the node grant it: nex node up --workload-subscribe SUBJECTS',
    });
    this.#ended.resolve(this.#refusal);
  }

  #accept(msg: Msg): void {
    if (this.#waiting.length >= (this.#options.maxWaiting ?? Infinity) && this.#isBusy) {
      this.#reply(msg, '', 'busy: too many messages wait for it');
      return;
    }
    this.#waiting.push(msg);
    this.#next();
  }

  #next(): void {
    if (this.#isBusy) return;
    const msg = this.#waiting.shift();
    if (msg === undefined) return;
    const task = this.#invoke(msg);
    this.#running.add(task);
    void task.finally(() => {
      this.#running.delete(task);
      this.#next();
    });
  }

  get #isBusy(): boolean {
    return this.#running.size >= (this.#options.concurrency ?? CONCURRENCY);
  }

  async #invoke(msg: Msg): Promise<void> {
    const maxReply = this.#maxReply;
    let result: Uint8Array | string | undefined;
    try {
      result = (await this.#options.handler(invocationOf(msg, maxReply), this.#abort.signal)) ?? '';
      const size = Buffer.byteLength(result);
      if (size > maxReply)
        throw new Error(`its reply has ${size} bytes, more than the ${maxReply} that the server takes`);
    } catch (error) {
      this.#logger.warn({ err: error, subject: msg.subject }, 'a triggered function failed');
      this.#reply(msg, '', error instanceof Error ? error.message : String(error));
      return;
    }
    this.#reply(msg, result);
  }

  get #maxReply(): number {
    return Math.max(0, (this.#nc?.info?.max_payload ?? Infinity) - REPLY_OVERHEAD);
  }

  #reply(msg: Msg, data: Uint8Array | string, error?: string): void {
    const { workloadId, namespace } = this.#options;
    const head = headers();
    head.set('workload_id', workloadId);
    head.set('namespace', namespace);
    if (error !== undefined) head.set('error', error.replaceAll(/\s+/g, ' ').trim().slice(0, MAX_ERROR) || 'error');
    try {
      msg.respond(data, { headers: head });
    } catch (cause) {
      this.#logger.warn({ err: cause, subject: msg.subject }, 'the reply of a triggered function could not be sent');
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  async #dispose(): Promise<void> {
    this.#abort.abort(new Error('the workload is ending'));
    const open = this.#subscriptions.filter((subscription) => !subscription.isClosed());
    // What the server has sent already is still handled. Without a server nothing comes, and no drain ends.
    const drained = Promise.allSettled(open.map((subscription) => subscription.drain()));
    await Promise.race([drained, delay(DRAIN_TIMEOUT, undefined, { ref: false })]);
    while (this.#running.size > 0) await Promise.all(this.#running);
    if (this.#nc !== undefined) await closeConnection(this.#nc);
    this.#ended.resolve(undefined);
  }
}

function invocationOf({ subject, data, headers: head }: Msg, maxReply: number): Invocation {
  return { subject, data, headers: new Map(head?.keys().map((key) => [key, head.values(key)])), maxReply };
}

/** Those that share it each get some of the messages; it is written into the subscription as it is. */
function queueOf(namespace: string, name: string): string {
  try {
    return `${subjectToken(namespace, 'namespace')}.${subjectToken(name, 'workload name')}`;
  } catch (cause) {
    if (!(cause instanceof ProtocolError)) throw cause;
    throw new NexletError('NEXLET_TRIGGER_INVALID', `Cannot trigger workload "${name}": ${cause.message}`, { cause });
  }
}

function checkSubject(subject: string, name: string): void {
  const tokens = subject.split('.');
  const misplaced = tokens.some((token, index) => token === '>' && index < tokens.length - 1);
  if (!misplaced && tokens.every((token) => token !== '' && !/\s/.test(token))) return;
  const message = `Cannot trigger workload "${name}" by ${JSON.stringify(subject)}: it is not a NATS subject`;
  throw new NexletError('NEXLET_TRIGGER_INVALID', message);
}
