import type { NatsConnection } from '@nats-io/nats-core';
import { ControllerError } from '../controller-error.ts';
import type { XKey } from '../deployments/secrets.ts';
import { LeaderLease, type LeaseTimings } from '../lease/leader-lease.ts';
import { type Logger, silentLogger } from '../logger.ts';
import { openStores } from '../store/stores.ts';
import { Wakeup } from '../wakeup.ts';
import { Leader, type LeaderTimings } from './leader.ts';
import { answerPings } from './presence.ts';

/** How soon it is tried again when something unforeseen ends a term, in milliseconds. */
const RETRY = 1_000;

export type ControllerTimings = LeaseTimings & LeaderTimings;

const DEFAULT_TIMINGS: ControllerTimings = {
  ttlMs: 6_000,
  renewMs: 2_000,
  marginMs: 1_000,
  idleMs: 2_000,
  busyMs: 500,
  stallMs: 300,
  lostAfterMs: 5_000,
  endedAfterMs: 1_500,
  unknownStartMs: 12_000,
};

export interface ControllerOptions {
  /** Tells it from others; that of the node that it runs in, so that their ends are known to be one. */
  id: string;
  /** Curve key pair to open environments with. Without it, deployments that have one are left to other controllers. */
  xkey?: XKey | undefined;
  logger?: Logger;
  /** Copies of the buckets in a cluster, where this controller makes them. Default 1. */
  replicas?: number | undefined;
  timings?: Partial<ControllerTimings>;
}

/** A controller at work, or standing by. Disposing it gives the lease back; replicas run on. */
export interface Controller extends AsyncDisposable {
  readonly id: string;
  /** It is the one that acts. */
  readonly leading: boolean;
  /** Resolves when it has ended, by being disposed or because the connection was closed. Never rejects. */
  readonly closed: Promise<void>;
}

/**
 * Runs a controller on a connection of the caller's: it keeps the replicas of all deployments of the account as long as
 * it has the lease, and stands by otherwise. Starts at once, and waits for JetStream however long.
 */
export function runController(nc: NatsConnection, options: ControllerOptions): Controller {
  return new RunningController(nc, options);
}

class RunningController implements Controller {
  readonly id: string;
  readonly closed: Promise<void>;
  readonly #nc: NatsConnection;
  readonly #options: ControllerOptions;
  readonly #timings: ControllerTimings;
  readonly #logger: Logger;
  readonly #abort = new AbortController();
  #leading = false;

  constructor(nc: NatsConnection, options: ControllerOptions) {
    this.id = options.id;
    this.#nc = nc;
    this.#options = options;
    this.#timings = { ...DEFAULT_TIMINGS, ...options.timings };
    this.#logger = (options.logger ?? silentLogger).child({ component: 'controller', controller: options.id });
    this.closed = this.#run();
  }

  get leading(): boolean {
    return this.#leading;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.closed;
  }

  async #run(): Promise<void> {
    const { xkey, replicas } = this.#options;
    const { signal } = this.#abort;
    void this.#nc.closed().then(() => this.#abort.abort());
    const describe = () => ({
      id: this.id,
      leading: this.#leading,
      ...(xkey === undefined ? {} : { xkey: xkey.getPublicKey() }),
    });
    const pings = answerPings(this.#nc, describe, this.#logger);
    const parts = { id: this.id, timings: this.#timings, logger: this.#logger, replicas };
    const pause = new Wakeup();
    try {
      await using lease = new LeaderLease(this.#nc, parts);
      while (!signal.aborted) {
        try {
          await this.#serve(lease, signal);
        } catch (error) {
          if (signal.aborted) break;
          this.#logger.error({ err: error }, 'the controller cannot work');
          await pause.pause(error instanceof ControllerError ? 10 * RETRY : RETRY, signal);
        }
      }
    } finally {
      if (!pings.isClosed()) pings.unsubscribe();
    }
  }

  /** Waits for the lease, and keeps the deployments while it holds. */
  async #serve(lease: LeaderLease, signal: AbortSignal): Promise<void> {
    const { xkey, replicas = 1, id } = this.#options;
    await using term = await lease.acquire(signal);
    const stop = () => term.end('this controller stops');
    signal.addEventListener('abort', stop, { once: true });
    // It may have been told to stop while the lease was on its way.
    if (signal.aborted) stop();
    this.#leading = true;
    this.#logger.info({ term: term.id, lapsed: term.lapsed }, 'this controller leads');
    try {
      // Whoever writes to a bucket first makes it: clients do not know how many copies there are to be.
      if (replicas > 1) await Promise.all(Object.values(openStores(this.#nc, { replicas })).map((one) => one.ensure()));
      await new Leader(this.#nc, term, { id, xkey, replicas, timings: this.#timings, logger: this.#logger }).run();
    } finally {
      this.#leading = false;
      signal.removeEventListener('abort', stop);
      const { reason } = term.signal as { reason?: unknown };
      this.#logger.info({ why: reason instanceof Error ? reason.message : undefined }, 'this controller leads no more');
    }
  }
}
