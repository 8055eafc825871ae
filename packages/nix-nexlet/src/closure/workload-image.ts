import type { Logger } from '@nex-nix/nexlet';
import {
  copyClosure,
  type LocalStore,
  type PathInfo,
  type PathSource,
  type PublicKey,
  queryClosure,
  requireTrust,
} from '@nex-nix/nix';
import type { NatsConnectionData, StartWorkloadRequest } from '@nex-nix/protocol';
import { findCertificates, type SandboxSpec } from '@nex-nix/sandbox';
import type { NatsRelay, ReachableServers } from '../relay/nats-relay.ts';
import { credentialsFolder } from '../request/credentials-file.ts';
import { workloadEnvironment } from '../request/environment.ts';
import type { WorkloadPlan } from '../request/workload-plan.ts';
import { findProgram } from './program.ts';

/** Where closures come from, and whom they are taken from. */
export interface ImageSources {
  /** The cache in NATS. */
  readonly source: PathSource;
  /** The node's own store; closures are imported into it. */
  readonly store: LocalStore;
  /** Keys whose signature makes a store path acceptable. */
  readonly trustedKeys: readonly PublicKey[];
  readonly logger: Logger;
  /** Brings workloads at the bridge to NATS. */
  readonly relay?: NatsRelay | undefined;
  /** Told of what was fetched for a workload: store paths, and bytes of their NARs. */
  readonly onFetched?: ((fetched: { paths: number; bytes: number }) => void) | undefined;
}

/** What an image is the image of. */
export interface ImageOf {
  readonly id: string;
  readonly request: StartWorkloadRequest;
  readonly plan: WorkloadPlan;
  /** What the request had sealed, opened. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Everything that the sandboxes of one workload are made of: its closure on this machine, its program, its environment. */
export class WorkloadImage {
  readonly #sources: ImageSources;
  readonly #of: ImageOf;
  #infos: readonly PathInfo[] | undefined;

  constructor(sources: ImageSources, of: ImageOf) {
    this.#sources = sources;
    this.#of = of;
  }

  /**
   * Finds the closure, in the own store where it is there whole, else in the cache, and checks that all of it is trusted.
   * Throws NIX_PATH_NOT_FOUND, NIX_PATH_UNTRUSTED.
   */
  async accept(signal: AbortSignal): Promise<void> {
    const { store, source, trustedKeys } = this.#sources;
    const { storePath } = this.#of.plan;
    const infos = await queryClosure((await store.has(storePath)) ? store : source, [storePath], { signal });
    for (const info of infos) requireTrust(info, trustedKeys);
    this.#infos = infos;
  }

  /** Fetches what of the closure is not here. After `accept()`. */
  async realise(signal: AbortSignal): Promise<void> {
    const { source, store, trustedKeys, logger, onFetched } = this.#sources;
    const { storePath } = this.#of.plan;
    const infos = this.#accepted();
    // All of it was found trusted when it was accepted.
    if ((await store.missing(infos.map((info) => info.storePath))).length === 0) return;
    const { copied, narBytes } = await copyClosure(source, store, [storePath], { trustedKeys, infos, signal });
    onFetched?.({ paths: copied.length, bytes: narBytes });
    if (copied.length > 0)
      logger.info({ storePath, paths: copied.length, bytes: narBytes }, 'closure realised, every NAR hash verified');
  }

  /** What a sandbox of it is to be, that acts on NATS with these credentials. After `realise()`, or `accept()` of a closure that is here. */
  async spec(credentials: NatsConnectionData, sandboxId: string = this.#of.id): Promise<SandboxSpec> {
    const { store } = this.#sources;
    const { id, plan, request, secrets } = this.#of;
    const closure = this.#accepted().map((info) => info.storePath);
    const shown = closure.map((storePath) => ({ storePath, source: store.realPath(storePath) }));
    const { servers, hosts } = await this.#reachable(credentials.nats_servers);
    return {
      id: sandboxId,
      closure: shown,
      program: await findProgram(store, { storePath: plan.storePath, program: plan.program, closure }),
      argv: plan.argv,
      environment: workloadEnvironment(id, plan, {
        request,
        credentials: { ...credentials, nats_servers: servers },
        secrets,
        certificates: await findCertificates(shown),
      }),
      resources: plan.resources,
      network: plan.network,
      exposePorts: plan.exposePorts,
      hosts,
      privateFolder: credentialsFolder(credentials),
    };
  }

  /** How a workload with its network gets to these NATS servers. */
  async #reachable(servers: string[]): Promise<ReachableServers> {
    const { relay } = this.#sources;
    if (relay === undefined || this.#of.plan.network !== 'bridge') return { servers, hosts: {} };
    return relay.reach(servers);
  }

  #accepted(): readonly PathInfo[] {
    if (this.#infos === undefined) throw new TypeError('The closure was not accepted yet');
    return this.#infos;
  }
}
