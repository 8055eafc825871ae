import type { NatsConnection } from '@nats-io/nats-core';
import { newId, SYSTEM_NAMESPACE } from '@nex-nix/protocol';
import { ControllerError } from '../controller-error.ts';
import { pingControllers } from '../controller/presence.ts';
import { deploymentKey, keyPrefix } from '../store/keys.ts';
import { openStores, type Stores } from '../store/stores.ts';
import { DEFAULT_POLICY, type Deployment, type Revision, type Strategy, type UpdatePolicy } from './deployment.ts';
import { addRevision, sameContent } from './revisions.ts';
import { createDeploymentKeys, type DeploymentKeys, sealForDeployment } from './secrets.ts';
import type { DeploymentStatus } from './status.ts';

/** How often a change is made again when others change the same deployment at the same time. */
const MAX_TRIES = 5;

/** What each replica consists of; all but the environment is kept in clear. */
export interface DeploymentContent {
  type: string;
  runRequest: unknown;
  description?: string;
  /** Tags that a node must have. */
  tags?: Readonly<Record<string, string>>;
  needs?: Readonly<Record<string, unknown>>;
}

export interface DeploymentRequest extends DeploymentContent {
  name: string;
  replicas: number;
  /** Default `spread`. */
  strategy?: Strategy;
  policy?: Partial<UpdatePolicy>;
  /** Sealed before it leaves this process. What it was before cannot be compared with: with it, there is a new revision. */
  environment?: Readonly<Record<string, string>>;
}

export interface DeploymentChange {
  /** The new content, from the one that is wanted now. Default: the same. */
  revise?: (content: Readonly<Revision>) => DeploymentContent;
  /** The whole environment. Default: the one that it has. */
  environment?: Readonly<Record<string, string>>;
  policy?: Partial<UpdatePolicy>;
}

/** What is wanted, and what there is; no controller has seen it yet where there is no status. */
export interface DeploymentView {
  readonly deployment: Deployment;
  readonly status: DeploymentStatus | undefined;
}

/** Describes the deployments of a namespace; a controller does the rest. */
export class Deployments {
  readonly #nc: NatsConnection;
  readonly #namespace: string;
  readonly #stores: Stores;

  /** @param options.replicas copies of the buckets in a cluster, where this makes them */
  constructor(nc: NatsConnection, options: { namespace?: string; replicas?: number } = {}) {
    this.#nc = nc;
    this.#namespace = options.namespace ?? SYSTEM_NAMESPACE;
    this.#stores = openStores(nc, { replicas: options.replicas });
  }

  /**
   * Makes a deployment, or brings the one of that name to what is asked for: another content is rolled out.
   *
   * @throws {ControllerError} DEPLOYMENT_INVALID, DEPLOYMENT_TOO_LARGE, DEPLOYMENT_CONFLICT, CONTROLLER_NONE (an
   *   environment has to be sealed for somebody), CONTROLLER_NO_JETSTREAM, …
   */
  async apply(request: DeploymentRequest): Promise<Deployment> {
    const { name, replicas, environment } = request;
    checkReplicas(name, replicas);
    return this.#write(name, async (found) => {
      const deployment = found?.removed === undefined ? (found ?? this.#fresh(request)) : this.#fresh(request);
      const { strategy = deployment.strategy, policy } = request;
      const changed = {
        ...deployment,
        replicas,
        strategy,
        policy: checkPolicy(name, { ...deployment.policy, ...policy }),
      };
      if (environment === undefined && sameContent(deployment, request)) return changed;
      return this.#revise(changed, request, await this.#environment(deployment, environment));
    });
  }

  /** @throws {ControllerError} DEPLOYMENT_NOT_FOUND, and as {@link apply} */
  async update(name: string, { revise, environment, policy }: DeploymentChange): Promise<Deployment> {
    return this.#change(name, async (deployment) => {
      const wanted = deployment.revisions.find(({ revision }) => revision === deployment.revision);
      if (wanted === undefined) throw noRevision(name, deployment.revision);
      const changed = { ...deployment, policy: checkPolicy(name, { ...deployment.policy, ...policy }) };
      if (revise === undefined && environment === undefined) return changed;
      const sealed = environment === undefined ? wanted.environment : await this.#environment(deployment, environment);
      return this.#revise(changed, revise === undefined ? wanted : revise(wanted), sealed);
    });
  }

  /**
   * Goes back to a revision. Default: the one that ran last when the wanted one failed, else the one before it.
   *
   * @throws {ControllerError} DEPLOYMENT_NOT_FOUND, DEPLOYMENT_REVISION_NOT_FOUND
   */
  async rollback(name: string, { to }: { to?: number | undefined } = {}): Promise<Deployment> {
    const status = await this.#status(name);
    return this.#change(name, async (deployment) => {
      const { uid, revision, revisions, attempt } = deployment;
      const running = status?.uid === uid ? status.revision : undefined;
      const before = revisions.filter((known) => known.revision < revision).at(-1)?.revision;
      const target = to ?? (running !== undefined && running !== revision ? running : before);
      if (target === undefined || !revisions.some((known) => known.revision === target)) throw noRevision(name, target);
      return { ...deployment, revision: target, attempt: attempt + 1 };
    });
  }

  /** @throws {ControllerError} DEPLOYMENT_NOT_FOUND, DEPLOYMENT_INVALID */
  async scale(name: string, replicas: number): Promise<Deployment> {
    checkReplicas(name, replicas);
    return this.#change(name, async (deployment) => ({ ...deployment, replicas }));
  }

  /**
   * Has all replicas stopped; then the deployment is forgotten.
   *
   * @throws {ControllerError} DEPLOYMENT_NOT_FOUND
   */
  async remove(name: string): Promise<Deployment> {
    return this.#change(name, async (deployment) => ({ ...deployment, removed: new Date().toISOString() }));
  }

  /** Undefined when there is none of that name. */
  async get(name: string): Promise<DeploymentView | undefined> {
    const found = await this.#stores.deployments.get(this.#key(name));
    return found === undefined ? undefined : view(found.value, await this.#status(name));
  }

  /** Those of the namespace, those of all in `system`. */
  async list(): Promise<DeploymentView[]> {
    const [{ entries }, statuses] = await Promise.all([this.#stores.deployments.all(), this.#stores.statuses.all()]);
    const prefix = this.#namespace === SYSTEM_NAMESPACE ? '' : keyPrefix(this.#namespace);
    return [...entries]
      .filter(([key]) => key.startsWith(prefix))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([key, { value }]) => view(value, statuses.entries.get(key)?.value) ?? []);
  }

  /** The status now and whenever it changes, until `signal` is aborted; only those about `since`, where it is given. */
  async *watch(
    name: string,
    { signal, since }: { signal: AbortSignal; since?: Deployment | undefined },
  ): AsyncGenerator<DeploymentStatus> {
    for await (const entry of this.#stores.statuses.watch(this.#key(name), signal)) {
      if (entry === undefined) continue;
      const { uid, generation } = entry.value;
      if (since === undefined || (uid === since.uid && generation >= since.generation)) yield entry.value;
    }
  }

  /** Whether somebody is there to keep replicas. */
  async hasController(signal?: AbortSignal): Promise<boolean> {
    return (await pingControllers(this.#nc, signal)).length > 0;
  }

  #key(name: string): string {
    return deploymentKey(this.#namespace, name);
  }

  async #status(name: string): Promise<DeploymentStatus | undefined> {
    return (await this.#stores.statuses.get(this.#key(name)))?.value;
  }

  #fresh({ name, replicas, strategy = 'spread' }: DeploymentRequest): Deployment {
    const namespace = this.#namespace;
    const counters = { generation: 0, attempt: 0, revision: 0 };
    return { uid: newId(), namespace, name, replicas, strategy, policy: DEFAULT_POLICY, ...counters, revisions: [] };
  }

  #change(name: string, change: (deployment: Deployment) => Promise<Deployment>): Promise<Deployment> {
    return this.#write(name, (found) => {
      if (found !== undefined && found.removed === undefined) return change(found);
      throw new ControllerError(
        'DEPLOYMENT_NOT_FOUND',
        `Cannot find replicas of "${name}" in namespace "${this.#namespace}": nobody asked for them`,
        { hint: 'See which there are: nex workload status' },
      );
    });
  }

  async #write(name: string, change: (found: Deployment | undefined) => Promise<Deployment>): Promise<Deployment> {
    const key = this.#key(name);
    const max = this.#nc.info?.max_payload ?? Infinity;
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const found = await this.#stores.deployments.get(key);
      const changed = await change(found?.value);
      const value = { ...changed, generation: changed.generation + 1 };
      if (JSON.stringify(value).length > max) {
        const message = `Cannot store the deployment "${name}": it is larger than a NATS message may be (${max} bytes)`;
        throw new ControllerError('DEPLOYMENT_TOO_LARGE', message);
      }
      if ((await this.#stores.deployments.set(key, value, found?.revision ?? 0)) !== undefined) return value;
    }
    throw new ControllerError(
      'DEPLOYMENT_CONFLICT',
      `Cannot change the deployment "${name}": others keep changing it`,
      {
        hint: 'Try again',
      },
    );
  }

  async #revise(deployment: Deployment, content: DeploymentContent, environment: Revision['environment']) {
    const status = await this.#status(deployment.name);
    const running = status?.uid === deployment.uid ? status.revision : undefined;
    return addRevision(deployment, content, { environment, running });
  }

  /** Seals an environment for the key of the deployment, which is made with the first one. */
  async #environment({ uid, name }: Deployment, environment: DeploymentRequest['environment']) {
    if (environment === undefined || Object.keys(environment).length === 0) return undefined;
    return sealForDeployment(await this.#keys(uid, name), environment);
  }

  async #keys(uid: string, name: string): Promise<DeploymentKeys> {
    const key = this.#key(name);
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const found = await this.#stores.keys.get(key);
      if (found?.value.uid === uid) return found.value;
      const xkeys = (await pingControllers(this.#nc)).flatMap(({ xkey }) => xkey ?? []);
      if (xkeys.length === 0) {
        throw new ControllerError(
          'CONTROLLER_NONE',
          `Cannot seal the environment of "${name}": no controller is there to open it`,
          { hint: 'Start one: nex node up' },
        );
      }
      const fresh = createDeploymentKeys(uid, xkeys);
      if ((await this.#stores.keys.set(key, fresh, found?.revision ?? 0)) !== undefined) return fresh;
    }
    throw new ControllerError('DEPLOYMENT_CONFLICT', `Cannot make a key for "${name}": others keep changing it`);
  }
}

/** What is left of a removed deployment is nobody's business. */
function view(deployment: Deployment, status: DeploymentStatus | undefined): DeploymentView | undefined {
  const own = status?.uid === deployment.uid ? status : undefined;
  return own?.phase === 'removed' ? undefined : { deployment, status: own };
}

function checkReplicas(name: string, replicas: number): void {
  if (Number.isInteger(replicas) && replicas >= 0 && replicas <= 10_000) return;
  throw new ControllerError(
    'DEPLOYMENT_INVALID',
    `Cannot keep ${replicas} replicas of "${name}": their number is a whole one from 0 to 10000`,
  );
}

function checkPolicy(name: string, policy: UpdatePolicy): UpdatePolicy {
  const { maxSurge, stableMs, startTimeoutMs } = policy;
  if (Number.isInteger(maxSurge) && maxSurge >= 1 && stableMs >= 0 && startTimeoutMs > 0) return policy;
  throw new ControllerError(
    'DEPLOYMENT_INVALID',
    `Cannot roll out "${name}" like that: maxSurge is at least 1, stableMs at least 0, startTimeoutMs above 0`,
  );
}

function noRevision(name: string, revision: number | undefined): ControllerError {
  const what =
    revision === undefined ? 'there is none before the one that is wanted' : `revision ${revision} is not kept`;
  return new ControllerError('DEPLOYMENT_REVISION_NOT_FOUND', `Cannot go back to a revision of "${name}": ${what}`, {
    hint: `See which there are: nex workload status ${name}`,
  });
}
