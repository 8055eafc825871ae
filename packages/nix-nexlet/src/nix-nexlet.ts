import { join } from 'node:path';
import { isNexError } from '@nex-nix/errors';
import type { Feeds, Logger, NexletDefinition, StartContext } from '@nex-nix/nexlet';
import {
  copyClosure,
  type LocalStore,
  type PathInfo,
  type PathSource,
  type PublicKey,
  queryClosure,
  requireTrust,
} from '@nex-nix/nix';
import type { StartWorkloadRequest } from '@nex-nix/protocol';
import type { Runtime, Sandbox } from '@nex-nix/sandbox';
import { DeploymentPins, type PinStore } from './deployment-pins.ts';
import { workloadEnvironment } from './environment.ts';
import { NixNexletError } from './nix-nexlet-error.ts';
import { findProgram } from './program.ts';
import { DEFAULTS, NixStartRequest, planWorkload, type WorkloadDefaults, type WorkloadPlan } from './start-request.ts';
import { Workload } from './workload.ts';
import { type WorkloadRecord, WorkloadRecords } from './workload-record.ts';

/** How many workloads that have ended are still listed, so that one can see why. */
const FINISHED_KEPT = 64;

export interface NixNexletOptions {
  /** Where closures come from: the cache in NATS. */
  source: PathSource;
  /** Where what runs is pinned as `deployment.<namespace>.<name>`, its last three versions; default: nowhere. */
  pins?: PinStore;
  /** The node's own store; closures are imported into it. */
  store: LocalStore;
  runtime: Runtime;
  /** Keys whose signature makes a store path acceptable. */
  trustedKeys: readonly PublicKey[];
  /** Folder for the records of running workloads. */
  stateDir: string;
  version: string;
  logger: Logger;
  defaults?: Partial<WorkloadDefaults>;
  /** What happens to running workloads when the nexlet closes. Default `stop`. */
  onClose?: 'stop' | 'leave';
}

/**
 * The provider of workloads of type `nix`: fetches the closure of a store path, verifies it, and runs a program of it
 * in a sandbox that sees nothing else. Give `definition` to a node (or to `runNexlet`).
 */
export class NixNexlet {
  readonly #options: NixNexletOptions;
  readonly #defaults: WorkloadDefaults;
  readonly #records: WorkloadRecords;
  readonly #workloads = new Map<string, Workload>();
  readonly #pins: DeploymentPins;
  #closing = false;

  private constructor(options: NixNexletOptions, records: WorkloadRecords) {
    this.#options = options;
    this.#defaults = { ...DEFAULTS, ...options.defaults };
    this.#records = records;
    this.#pins = new DeploymentPins(options.pins, options.logger);
  }

  static async open(options: NixNexletOptions): Promise<NixNexlet> {
    return new NixNexlet(options, await WorkloadRecords.open(join(options.stateDir, 'workloads')));
  }

  /** What the node registers. */
  get definition(): NexletDefinition {
    return {
      name: 'nix',
      type: 'nix',
      version: this.#options.version,
      description: 'Runs Nix store paths in sandboxes that see only their closure',
      lifecycles: ['service', 'job'],
      startRequestSchema: NixStartRequest,
      ready: (feeds) => this.#adoptAll(feeds),
      start: (context) => this.#start(context),
      stop: (id, { namespace }) => this.#stop(id, namespace),
      get: async (id) => this.#workloads.get(id)?.request,
      list: async () => [...this.#workloads.values()].map((workload) => workload.summary()),
      lameduck: async () => {
        this.#closing = true;
      },
      close: () => this.#close(),
    };
  }

  /**
   * Answers as soon as the request is valid and its closure is known and trusted; the rest happens behind it.
   * Throws NIX_NEXLET_REQUEST_INVALID, NIX_NEXLET_WORKLOAD_EXISTS, NIX_PATH_NOT_FOUND, NIX_PATH_UNTRUSTED.
   */
  async #start(context: StartContext): Promise<{ id: string; name: string }> {
    const { workloadId: id, request, runRequest, credentials, existing, feeds } = context;
    if (this.#closing) {
      throw new NixNexletError('NIX_NEXLET_CLOSING', 'Cannot start a workload: this node is shutting down');
    }
    const plan = planWorkload(runRequest, this.#defaults);
    checkId(id);
    const known = this.#workloads.get(id);
    if (known !== undefined && !known.finished) {
      // What the node wants back was adopted already.
      if (existing) return { id, name: known.request.name };
      throw new NixNexletError('NIX_NEXLET_WORKLOAD_EXISTS', `Cannot start workload "${id}": there is one of that id`);
    }
    const workload = this.#add(id, request, plan, feeds);
    try {
      await workload.launch({
        accept: (signal) => this.#trustedClosure(plan, signal),
        prepare: async (infos, signal) => {
          this.#pins.keep(request, plan.storePath);
          await this.#realise(plan, infos, signal);
          const environment = workloadEnvironment(id, plan, { request, credentials });
          return this.#sandbox(id, plan, { infos, environment });
        },
      });
    } catch (error) {
      this.#forget(workload);
      throw error;
    }
    return { id, name: request.name };
  }

  /** The closure out of the own store where it is there whole, else out of the cache. */
  async #trustedClosure({ storePath }: WorkloadPlan, signal: AbortSignal): Promise<PathInfo[]> {
    const { store, source, trustedKeys } = this.#options;
    const infos = await queryClosure((await store.has(storePath)) ? store : source, [storePath], { signal });
    for (const info of infos) requireTrust(info, trustedKeys);
    return infos;
  }

  async #realise({ storePath }: WorkloadPlan, infos: readonly PathInfo[], signal: AbortSignal): Promise<void> {
    const { source, store, trustedKeys, logger } = this.#options;
    const { copied, narBytes } = await copyClosure(source, store, [storePath], { trustedKeys, infos, signal });
    if (copied.length > 0)
      logger.info({ storePath, paths: copied.length, bytes: narBytes }, 'closure realised, every NAR hash verified');
  }

  async #sandbox(
    id: string,
    plan: WorkloadPlan,
    { infos, environment }: { infos: readonly PathInfo[]; environment: Record<string, string> },
  ): Promise<Sandbox> {
    const { store, runtime } = this.#options;
    const closure = infos.map((info) => info.storePath);
    const program = await findProgram(store, { storePath: plan.storePath, program: plan.program, closure });
    return runtime.create({
      id,
      closure: closure.map((storePath) => ({ storePath, source: store.realPath(storePath) })),
      program,
      argv: plan.argv,
      environment,
      resources: plan.resources,
      network: plan.network,
    });
  }

  /** True when the workload is of this nexlet and of that namespace, and nothing of it is left. */
  async #stop(id: string, namespace: string): Promise<boolean> {
    const workload = this.#workloads.get(id);
    if (workload === undefined || workload.request.namespace !== namespace) return false;
    await workload.stop();
    this.#forget(workload);
    return true;
  }

  #forget(workload: Workload): void {
    if (this.#workloads.get(workload.id) === workload) this.#workloads.delete(workload.id);
  }

  #add(id: string, request: StartWorkloadRequest, plan: WorkloadPlan, feeds: Feeds): Workload {
    const { logger, store } = this.#options;
    const hold = (): Disposable => store.hold([plan.storePath]);
    const workload = new Workload({ id, request, plan, feeds, logger, hold, records: this.#records });
    this.#workloads.set(id, workload);
    const finished = [...this.#workloads.values()].filter((entry) => entry.finished);
    for (const old of finished.slice(0, Math.max(0, finished.length - FINISHED_KEPT))) this.#workloads.delete(old.id);
    return workload;
  }

  /** Takes over what an earlier process left running, and clears away what it left dead or half started. */
  async #adoptAll(feeds: Feeds): Promise<void> {
    const { runtime, logger } = this.#options;
    const { records, unreadable } = await this.#records.all();
    for (const error of unreadable) logger.error({ err: error }, error.message);
    for (const record of records) await this.#adopt(record, feeds);
    for (const record of (await runtime.list?.()) ?? []) {
      if (this.#workloads.has(record.id)) continue;
      const leftover = await runtime.adopt(record);
      await leftover?.stop({ graceMs: 0 });
      await leftover?.remove();
    }
  }

  async #adopt(record: WorkloadRecord, feeds: Feeds): Promise<void> {
    const { runtime, logger } = this.#options;
    const plan = this.#planOf(record);
    if (plan === undefined) return this.#records.remove(record.id);
    const workload = this.#add(record.id, record.request, plan, feeds);
    const sandbox = await runtime.adopt(record.sandbox);
    if (sandbox === undefined) return workload.lose(record);
    workload.adopt(sandbox, record);
    logger.info({ workload: record.id, name: record.request.name }, 'workload adopted');
  }

  /** Undefined when this version does not take the request any more: then its workload cannot be kept. */
  #planOf({ id, request }: WorkloadRecord): WorkloadPlan | undefined {
    try {
      return planWorkload(JSON.parse(request.run_request), this.#defaults);
    } catch (error) {
      if (!(error instanceof SyntaxError) && !isNexError(error)) throw error;
      const why = `workload "${id}" of an earlier run cannot be kept and is ended: ${error.message}`;
      this.#options.logger.error({ workload: id, name: request.name, err: error }, why);
      return undefined;
    }
  }

  async #close(): Promise<void> {
    this.#closing = true;
    const leave = this.#options.onClose === 'leave';
    const ends = [...this.#workloads.values()].map((workload) => (leave ? workload.release() : workload.stop()));
    // All of them are waited for, so that no failure leaves the end of another one to itself.
    const failures = (await Promise.allSettled(ends)).filter((end) => end.status === 'rejected');
    await this.#pins[Symbol.asyncDispose]();
    if (failures.length > 0) throw failures[0]?.reason;
  }
}

/** It names the sandbox and the record's file. */
function checkId(id: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(id)) return;
  const what = 'is not made of up to 64 letters, digits, "_" and "-"';
  throw new NixNexletError('NIX_NEXLET_REQUEST_INVALID', `Cannot start workload ${JSON.stringify(id)}: its id ${what}`);
}
