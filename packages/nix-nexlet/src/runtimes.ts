import type { Gateway, Runtime, RuntimeName, Sandbox, SandboxRecord } from '@nex-nix/sandbox';
import { NixNexletError } from './nix-nexlet-error.ts';

/** The kinds of sandbox that a node has. */
export interface NodeRuntimes {
  /** What workloads may ask for: one at least. */
  readonly oci?: Runtime | undefined;
  readonly microvm?: Runtime | undefined;
  /** What the node had earlier, for what still runs in them: nothing new is started there. */
  readonly former?: readonly Runtime[] | undefined;
}

/** Chooses among the runtimes of a node: by what a request asks for, or by what a record says that it is of. */
export class Runtimes {
  /** Of workloads that name no sandbox. */
  readonly standard: RuntimeName;
  readonly #offered: readonly Runtime[];
  readonly #all: readonly Runtime[];

  /** `standard`: one of those that are offered; default: the first of them. */
  constructor({ oci, microvm, former = [] }: NodeRuntimes, standard?: RuntimeName) {
    this.#offered = [oci, microvm].filter((runtime) => runtime !== undefined);
    this.#all = [...this.#offered, ...former];
    const chosen = this.#offered.find(({ name }) => standard === undefined || name === standard);
    if (chosen === undefined) throw new TypeError(`A node needs the runtime of its default, "${standard ?? 'any'}"`);
    this.standard = chosen.name;
  }

  /** This machine's side of the network `bridge`, which all runtimes of a node share: that of any of them serves all. */
  get gateway(): Gateway | undefined {
    return this.#all.find(({ gateway }) => gateway !== undefined)?.gateway;
  }

  /** Why a workload that asks for this sandbox cannot run here, as a text that completes "the node …". */
  whyNot(name: unknown): string | undefined {
    if (name === undefined || this.#offered.some((runtime) => runtime.name === name)) return undefined;
    const kinds = this.#offered.map((runtime) => runtime.name).join(' and ');
    return `has no sandboxes of the kind ${JSON.stringify(name)}, but ${kinds}`;
  }

  /** @throws {NixNexletError} NIX_NEXLET_REQUEST_INVALID when the node does not offer such sandboxes */
  of(name: RuntimeName): Runtime {
    const runtime = this.#offered.find((offered) => offered.name === name);
    if (runtime !== undefined) return runtime;
    const message = `Cannot run the workload: the node ${this.whyNot(name)}`;
    const how = name === 'microvm' ? 'nex node up --guest-image DIR' : 'nex node up --sandboxes oci,microvm';
    throw new NixNexletError('NIX_NEXLET_REQUEST_INVALID', message, {
      hint: `Leave "sandbox" out of the request, or start a node that has them: ${how}`,
    });
  }

  /** The runtime of a record, offered or not; undefined when it is not here. */
  ofRecord({ runtime: wanted }: SandboxRecord): Runtime | undefined {
    return this.#all.find(({ name }) => name === wanted);
  }

  /** The sandbox of a record; undefined when it is gone, or its runtime is not here. */
  async adopt(record: SandboxRecord): Promise<Sandbox | undefined> {
    return this.ofRecord(record)?.adopt(record);
  }

  /** All sandboxes of all of them, running or ended. */
  async list(): Promise<SandboxRecord[]> {
    return (await Promise.all(this.#all.map(async (runtime) => (await runtime.list?.()) ?? []))).flat();
  }
}
