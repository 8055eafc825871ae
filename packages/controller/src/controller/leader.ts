import { NexClient, type NodePing } from '@nex-nix/protocol';
import type { NatsConnection, Subscription } from '@nats-io/nats-core';
import type { Deployment } from '../deployments/deployment.ts';
import { openDeploymentKey, shareDeploymentKey, type XKey } from '../deployments/secrets.ts';
import { fencedConnection } from '../lease/fenced-connection.ts';
import type { Term } from '../lease/term.ts';
import type { Logger } from '../logger.ts';
import { observe, pingNodes } from '../replicas/observation.ts';
import type { ReplicaTimings } from '../replicas/replica-set.ts';
import { openStores, type Stores } from '../store/stores.ts';
import { Wakeup } from '../wakeup.ts';
import { pingControllers } from './presence.ts';
import { Reconciler } from './reconciler.ts';

export interface LeaderTimings extends ReplicaTimings {
  /** Time between looks at the nodes while nothing is to be done, in milliseconds. */
  idleMs: number;
  /** The same while something is. */
  busyMs: number;
  /** How long to wait for one more node to answer after the last one. */
  stallMs: number;
  /** A start whose answer was lost counts as a replica for this time: longer than a bid holds. */
  unknownStartMs: number;
}

export interface LeaderOptions {
  id: string;
  xkey: XKey | undefined;
  timings: LeaderTimings;
  replicas: number | undefined;
  logger: Logger;
}

/** However often they are asked, nodes answer no more often than so many times a second, all together. */
const ANSWERS_PER_SECOND = 200;
/** Deployments are read again after this time although no change of them was heard, in milliseconds. */
const REREAD_AFTER = 10_000;
const SHARE_AFTER = 10_000;
/** What is removed is remembered for this time: a node that was away may bring replicas back. */
const REMEMBER_REMOVED = 24 * 3600_000;

/** Keeps all deployments for one term of office. */
export class Leader {
  readonly #nc: NatsConnection;
  readonly #term: Term;
  readonly #options: LeaderOptions;
  readonly #logger: Logger;
  readonly #stores: Stores;
  readonly #client: NexClient;
  readonly #wakeup = new Wakeup();
  readonly #reconcilers = new Map<string, Reconciler>();
  #changed = true;
  #readAt = 0;
  #sharedAt = -Infinity;
  #complaints = '';

  constructor(nc: NatsConnection, term: Term, options: LeaderOptions) {
    const fenced = fencedConnection(nc, () => term.check());
    this.#nc = nc;
    this.#term = term;
    this.#options = options;
    this.#logger = options.logger;
    this.#stores = openStores(nc, { replicas: options.replicas });
    this.#client = new NexClient(fenced);
  }

  /** Works until the term ends. */
  async run(): Promise<void> {
    const { signal } = this.#term;
    const changes = this.#listen();
    try {
      while (!signal.aborted) {
        let pause = this.#options.timings.idleMs;
        try {
          pause = await this.#look(signal);
        } catch (error) {
          if (!signal.aborted) this.#logger.warn({ err: error }, 'the deployments cannot be looked after');
        }
        await this.#wakeup.pause(pause, signal);
      }
    } finally {
      if (!changes.isClosed()) changes.unsubscribe();
      await Promise.all([...this.#reconcilers.values()].map((reconciler) => reconciler.finish()));
    }
  }

  /** Hears of changes of deployments as soon as they are written. */
  #listen(): Subscription {
    return this.#nc.subscribe(this.#stores.deployments.subject(), {
      callback: (error) => {
        if (error !== null) this.#logger.warn({ err: error }, 'changes of deployments cannot be heard');
        this.#changed = true;
        this.#wakeup.wake();
      },
    });
  }

  /** One look at all deployments; returns how long to wait for the next one. */
  async #look(signal: AbortSignal): Promise<number> {
    if (this.#changed || performance.now() - this.#readAt > REREAD_AFTER) await this.#readDeployments();
    const { idleMs, busyMs, stallMs } = this.#options.timings;
    if (this.#reconcilers.size === 0) return idleMs;
    const nodes = await pingNodes(this.#client, { stall: stallMs, signal });
    const namespaces = Map.groupBy(this.#reconcilers.values(), ({ deployment }) => deployment.namespace);
    await Promise.all([...namespaces].map(([namespace, group]) => this.#lookAt(namespace, group, nodes)));
    await this.#shareKeys(signal);
    await this.#forgetRemoved();
    const busy = [...this.#reconcilers.values()].some((reconciler) => reconciler.busy);
    return Math.max(busy ? busyMs : idleMs, (nodes.size * namespaces.size * 1_000) / ANSWERS_PER_SECOND);
  }

  async #lookAt(namespace: string, group: Reconciler[], nodes: ReadonlyMap<string, NodePing>): Promise<void> {
    const names = group.map(({ deployment }) => deployment.name);
    const observation = await observe(this.#client, { namespace, names, nodes }, this.#term.signal);
    this.#term.check();
    const results = await Promise.allSettled(group.map((reconciler) => reconciler.observe(observation)));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  async #readDeployments(): Promise<void> {
    this.#changed = false;
    try {
      const { entries, unreadable } = await this.#stores.deployments.all();
      const complaints = unreadable.map(({ message }) => message).join('; ');
      if (complaints !== this.#complaints && complaints !== '') this.#logger.error({}, complaints);
      this.#complaints = complaints;
      for (const [key, { value }] of entries) await this.#take(key, value);
      // Replicas of a deployment that is gone with its bucket are left alone: nobody asked for their end.
      for (const key of this.#reconcilers.keys()) if (!entries.has(key)) await this.#drop(key);
    } catch (error) {
      this.#changed = true;
      throw error;
    }
    this.#readAt = performance.now();
  }

  async #take(key: string, deployment: Deployment): Promise<void> {
    const known = this.#reconcilers.get(key);
    if (known !== undefined && known.deployment.uid === deployment.uid) return known.change(deployment);
    if (known !== undefined) await this.#drop(key);
    const { id, xkey, timings, logger } = this.#options;
    const found = await this.#stores.statuses.get(key);
    const reconciler = new Reconciler(
      {
        client: this.#client,
        stores: this.#stores,
        key,
        xkey,
        controllerId: id,
        term: this.#term,
        unknownStartMs: timings.unknownStartMs,
        timings,
        logger,
        wake: () => this.#wakeup.wake(),
      },
      deployment,
      found,
    );
    this.#reconcilers.set(key, reconciler);
  }

  async #drop(key: string): Promise<void> {
    const reconciler = this.#reconcilers.get(key);
    this.#reconcilers.delete(key);
    await reconciler?.finish();
  }

  /** Lets controllers that have joined open the environments: one of them may have to take over. */
  async #shareKeys(signal: AbortSignal): Promise<void> {
    const { xkey } = this.#options;
    const sealed = [...this.#reconcilers].filter(([, { deployment }]) =>
      deployment.revisions.some(({ environment }) => environment !== undefined),
    );
    if (xkey === undefined || sealed.length === 0 || performance.now() - this.#sharedAt < SHARE_AFTER) return;
    const controllers = await pingControllers(this.#nc, signal);
    const present = new Set(controllers.flatMap(({ xkey }) => xkey ?? []));
    for (const [key, { deployment }] of sealed) {
      const found = await this.#stores.keys.get(key);
      if (found === undefined || found.value.uid !== deployment.uid) continue;
      if (!Object.hasOwn(found.value.seeds, xkey.getPublicKey())) continue;
      const shared = shareDeploymentKey(found.value, openDeploymentKey(found.value, xkey), present);
      // Who else changed it meanwhile: the next round sees it.
      if (shared !== undefined) await this.#stores.keys.set(key, shared, found.revision);
    }
    this.#sharedAt = performance.now();
  }

  async #forgetRemoved(): Promise<void> {
    for (const [key, { deployment }] of this.#reconcilers) {
      const { removed } = deployment;
      if (removed === undefined || Date.now() - Date.parse(removed) < REMEMBER_REMOVED) continue;
      await this.#drop(key);
      const { deployments, statuses, keys } = this.#stores;
      for (const bucket of [statuses, keys, deployments] as const) {
        const found = await bucket.get(key);
        if (found !== undefined && found.value.uid === deployment.uid) await bucket.remove(key, found.revision);
      }
    }
  }
}
