import { join } from 'node:path';
import { isNexError } from '@nex-nix/errors';
import type { Feeds, NexletDefinition, StartContext } from '@nex-nix/nexlet';
import { seedOfXKey, type StartWorkloadRequest, type WorkloadSummary } from '@nex-nix/protocol';
import { bidTerms, type Capacity, MACHINE, type Tenant, whyNoRoom } from './bid-terms.ts';
import { DeploymentPins, type PinStore } from './closure/deployment-pins.ts';
import { FunctionWorkload } from './functions/function-workload.ts';
import { loadNexletKey, type XKey } from './nexlet-key.ts';
import { NixNexletError } from './nix-nexlet-error.ts';
import { type ImageSources, WorkloadImage } from './closure/workload-image.ts';
import { openSealed, resealFor } from './request/sealed-request.ts';
import { DEFAULTS, planWorkload, type WorkloadDefaults, type WorkloadPlan } from './request/workload-plan.ts';
import { NatsRelay } from './relay/nats-relay.ts';
import { NixStartRequest } from './request/nix-start-request.ts';
import { type NodeRuntimes, Runtimes } from './runtimes.ts';
import { UsageSampler } from './usage/usage-sampler.ts';
import type { ManagedWorkload, WorkloadParts } from './workload/managed-workload.ts';
import { adoptWorkloads } from './workload/adopt-workloads.ts';
import { Workload } from './workload/workload.ts';
import { type WorkloadRecord, WorkloadRecords } from './workload/workload-record.ts';

/** How many workloads that have ended are still listed, so that one can see why; all that ended within the last minute are. */
const FINISHED_KEPT = 64;
const FINISHED_KEPT_MS = 60_000;
/** Time between two measurements of what a workload uses, in milliseconds. */
const METRICS_MS = 10_000;

export interface NixNexletOptions extends Omit<ImageSources, 'relay'> {
  /** Where what runs is pinned as `deployment.<namespace>.<name>`, its last three versions; default: nowhere. */
  pins?: PinStore;
  /** What workloads run in; `defaults.sandbox` is one of them, by default `oci` where it is there. */
  runtimes: NodeRuntimes;
  /** Folder for the records of running workloads. */
  stateDir: string;
  version: string;
  defaults?: Partial<WorkloadDefaults>;
  /** What happens to running workloads when the nexlet closes. Default `stop`. */
  onClose?: 'stop' | 'leave';
  /** What workloads may ask for together. Default: {@link MACHINE}. */
  capacity?: Partial<Capacity>;
  /** Time between two measurements of what each workload uses, in milliseconds; 0: none. Default 10 s. */
  metricsMs?: number;
}

/** What is made ready before a nexlet is there. */
interface Opened {
  readonly records: WorkloadRecords;
  readonly runtimes: Runtimes;
  readonly key: XKey;
  readonly relay: NatsRelay | undefined;
}

/**
 * The provider of workloads of type `nix`: fetches the closure of a store path, verifies it, and runs a program of it
 * in a sandbox that sees nothing else. Give `definition` to a node (or to `runNexlet`).
 */
export class NixNexlet {
  readonly #options: NixNexletOptions;
  readonly #defaults: WorkloadDefaults;
  readonly #records: WorkloadRecords;
  readonly #runtimes: Runtimes;
  readonly #workloads = new Map<string, ManagedWorkload>();
  readonly #pins: DeploymentPins;
  readonly #key: XKey;
  readonly #capacity: Capacity;
  readonly #usage: UsageSampler;
  readonly #relay: NatsRelay | undefined;
  #closing = false;

  private constructor(options: NixNexletOptions, { records, runtimes, key, relay }: Opened) {
    this.#options = options;
    this.#relay = relay;
    this.#key = key;
    this.#capacity = { ...MACHINE, ...options.capacity };
    this.#defaults = { ...DEFAULTS, ...options.defaults, sandbox: runtimes.standard };
    this.#runtimes = runtimes;
    this.#records = records;
    this.#pins = new DeploymentPins(options.pins, options.logger);
    this.#usage = new UsageSampler({
      workloads: () => this.#workloads.values(),
      intervalMs: options.metricsMs ?? METRICS_MS,
      logger: options.logger,
    });
  }

  static async open(options: NixNexletOptions): Promise<NixNexlet> {
    const records = await WorkloadRecords.open(join(options.stateDir, 'workloads'));
    const { logger } = options;
    const runtimes = new Runtimes(options.runtimes, options.defaults?.sandbox);
    const { gateway } = runtimes;
    const stateFile = join(options.stateDir, 'relay.json');
    const relay = gateway && (await NatsRelay.open({ gateway, stateFile, logger }));
    return new NixNexlet(options, { records, runtimes, key: await loadNexletKey(options.stateDir), relay });
  }

  /** Public curve key that environments are sealed for: X… */
  get xkey(): string {
    return this.#key.getPublicKey();
  }

  /** What the node registers. */
  get definition(): NexletDefinition {
    return {
      name: 'nix',
      type: 'nix',
      version: this.#options.version,
      description: 'Runs Nix store paths in sandboxes that see only their closure',
      lifecycles: ['service', 'job', 'function'],
      startRequestSchema: NixStartRequest,
      xkeySeed: seedOfXKey(this.#key),
      ready: (feeds) => this.#adoptAll(feeds),
      start: (context) => this.#start(context),
      stop: (id, { namespace }) => this.#stop(id, namespace),
      get: async (id, options) => this.#get(id, options?.newTargetXkey),
      list: async () => [...this.#workloads.values()].map((workload) => this.#summaryOf(workload)),
      bid: (auction) =>
        bidTerms(auction, {
          capacity: this.#capacity,
          tenants: this.#tenants(),
          store: this.#options.store,
          runtimes: this.#runtimes,
        }),
      renew: async (id, credentials) => this.#workloads.get(id)?.renew(credentials),
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
    const plan = planWorkload(runRequest, request.workload_lifecycle, this.#defaults);
    checkId(id);
    const known = this.#workloads.get(id);
    // What the node wants back was adopted already, or has ended by itself.
    if (known !== undefined && existing && !known.lost) {
      await known.renew(credentials);
      return { id, name: known.request.name };
    }
    const parts = this.#partsOf(id, { request, plan, runtime: this.#runtimes.of(plan.sandbox) }, feeds);
    if (known !== undefined && !known.finished) {
      throw new NixNexletError('NIX_NEXLET_WORKLOAD_EXISTS', `Cannot start workload "${id}": there is one of that id`);
    }
    if (!existing) this.#requireRoom(plan, request.namespace);
    const workload = this.#add(newWorkload(parts));
    await known?.forget();
    try {
      await workload.launch(credentials);
    } catch (error) {
      this.#forget(workload);
      throw error;
    }
    return { id, name: request.name };
  }

  /** With a target, what is sealed for this nexlet is sealed for that key instead: whoever asks is to start it elsewhere. */
  #get(id: string, target: string | undefined): StartWorkloadRequest | undefined {
    const request = this.#workloads.get(id)?.request;
    return request === undefined || target === undefined ? request : resealFor(target, request, this.#key);
  }

  #summaryOf(workload: ManagedWorkload): WorkloadSummary {
    const summary = workload.summary();
    return { ...summary, metadata: { ...summary.metadata, ...this.#usage.metadataOf(workload) } };
  }

  #tenants(): Tenant[] {
    return [...this.#workloads.values()].flatMap(({ tenant }) => tenant ?? []);
  }

  /** Others may have been started since the bid. */
  #requireRoom({ reservation, exposePorts: ports }: WorkloadPlan, namespace: string): void {
    const wanted = { ...reservation, ports };
    const why = whyNoRoom(wanted, { capacity: this.#capacity, tenants: this.#tenants(), namespace });
    if (why === undefined) return;
    throw new NixNexletError('NIX_NEXLET_NO_ROOM', `Cannot start the workload: the node ${why}`, {
      hint: 'Start it again: another node may have room',
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

  #forget(workload: ManagedWorkload): void {
    if (this.#workloads.get(workload.id) === workload) this.#workloads.delete(workload.id);
  }

  #partsOf(id: string, planned: Pick<WorkloadParts, 'request' | 'plan' | 'runtime'>, feeds: Feeds): WorkloadParts {
    const { request, plan, runtime } = planned;
    const { logger, store } = this.#options;
    const secrets = openSealed(plan.sealed, this.#key);
    const image = new WorkloadImage({ ...this.#options, relay: this.#relay }, { id, request, plan, secrets });
    const hold = (): Disposable => store.hold([plan.storePath]);
    const onAccepted = () => this.#pins.keep(request, plan.storePath);
    return { id, request, plan, image, runtime, feeds, logger, hold, records: this.#records, onAccepted };
  }

  #add<T extends ManagedWorkload>(workload: T): T {
    // At the end of the list, where the one before it may not have been.
    this.#workloads.delete(workload.id);
    this.#workloads.set(workload.id, workload);
    this.#dropFinished();
    return workload;
  }

  #dropFinished(): void {
    const finished = [...this.#workloads.values()].filter((entry) => entry.finished);
    const limit = Date.now() - FINISHED_KEPT_MS;
    for (const old of finished.slice(0, Math.max(0, finished.length - FINISHED_KEPT))) {
      if ((old.endTime ?? 0) > limit) continue;
      this.#workloads.delete(old.id);
      void old.forget();
    }
  }

  async #adoptAll(feeds: Feeds): Promise<void> {
    const { logger } = this.#options;
    this.#usage.start(feeds);
    await this.#relay?.resume();
    await adoptWorkloads({
      records: this.#records,
      runtimes: this.#runtimes,
      logger,
      partsOf: (record) => this.#partsOfRecord(record, feeds),
      add: (workload) => this.#add(workload),
    });
  }

  /** Undefined when this node, or this version, does not take the request any more: then its workload cannot be kept. */
  #partsOfRecord({ id, request, sandbox }: WorkloadRecord, feeds: Feeds): WorkloadParts | undefined {
    // Where it runs stays as it was: the node may have another default since.
    const present = sandbox && this.#runtimes.ofRecord(sandbox);
    const defaults = { ...this.#defaults, sandbox: present?.name ?? this.#defaults.sandbox };
    try {
      const plan = planWorkload(JSON.parse(request.run_request), request.workload_lifecycle, defaults);
      const runtime = present ?? this.#runtimes.of(plan.sandbox);
      return this.#partsOf(id, { request, plan, runtime }, feeds);
    } catch (error) {
      if (!(error instanceof SyntaxError) && !isNexError(error)) throw error;
      const why = `workload "${id}" of an earlier run cannot be kept and is ended: ${error.message}`;
      this.#options.logger.error({ workload: id, name: request.name, err: error }, why);
      return undefined;
    }
  }

  async #close(): Promise<void> {
    this.#closing = true;
    await this.#usage[Symbol.asyncDispose]();
    const leave = this.#options.onClose === 'leave';
    const ends = [...this.#workloads.values()].map((workload) => (leave ? workload.release() : endWithNode(workload)));
    // All of them are waited for, so that no failure leaves the end of another one to itself.
    const failures = (await Promise.allSettled(ends)).filter((end) => end.status === 'rejected');
    await this.#pins[Symbol.asyncDispose]();
    await this.#relay?.[Symbol.asyncDispose]();
    if (failures.length > 0) throw failures[0]?.reason;
  }
}

/** The one place that knows which lifecycle is which kind of workload; only those of this kind outlive their node. */
function newWorkload(parts: WorkloadParts): ManagedWorkload {
  const { function: plan } = parts.plan;
  return plan === undefined ? new Workload(parts) : new FunctionWorkload(parts, plan);
}

/** What a node that comes back is not to start again, or to show, stays remembered: jobs that ran, and what had ended. */
function endWithNode(workload: ManagedWorkload): Promise<void> {
  return workload.stop({ keepEnd: workload.finished || workload.hasRun });
}

/** It names the sandbox and the record's file. */
function checkId(id: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(id)) return;
  const what = 'is not made of up to 64 letters, digits, "_" and "-"';
  throw new NixNexletError('NIX_NEXLET_REQUEST_INVALID', `Cannot start workload ${JSON.stringify(id)}: its id ${what}`);
}
