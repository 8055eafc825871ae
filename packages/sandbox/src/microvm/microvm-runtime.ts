import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { isNexError } from '@nex-nix/errors';
import { readGuestImage } from '@nex-nix/guest';
import { UserIdClaims } from '../bundle/user-id-claims.ts';
import { removeEmptyParents, SandboxCgroup } from '../cgroup/cgroup.ts';
import { inspectMachine } from '../machine.ts';
import { halfFolders, namesIn, parseRecord, removeHalfFolders, removeTree } from '../sandbox-folder.ts';
import { SandboxError } from '../sandbox-error.ts';
import type {
  CleanOptions,
  Gateway,
  Leftover,
  Requirement,
  Runtime,
  Sandbox,
  SandboxRecord,
  SandboxSpec,
  WarmSandbox,
} from '../sandbox.ts';
import { isAlive } from '../supervisor/process-identity.ts';
import { isSandboxId, validateSpec } from '../validate-spec.ts';
import { networkSettings, type NetworkSettings } from '../network/network-options.ts';
import { QemuVmm } from '../vmm/qemu/qemu-vmm.ts';
import type { GuestImage } from '../vmm/vmm.ts';
import { openNetworks } from './machine-networks.ts';
import { MicrovmFiles } from './microvm-files.ts';
import { type MicrovmRuntimeOptions, microvmSettings } from './microvm-options.ts';
import { MicrovmSandbox } from './microvm-sandbox.ts';
import { MicrovmWarmSandbox } from './microvm-warm-sandbox.ts';
import { OutputLog } from './output-log.ts';
import { assertNetwork, assertPermitted, assertSources, taken, withoutImage } from './refusals.ts';
import { microvmRequirements } from './requirements.ts';
import type { WorkloadDisks } from './workload-disks.ts';
import { openWorkshop, type Workshop, type WorkshopParts } from './workshop.ts';

/** Where QEMU keeps what it has found out about this machine. */
const QEMU_FOLDER = '.vmm';

/** Sandboxes as virtual machines, each with a guest of its own. */
export class MicrovmRuntime implements Runtime {
  readonly name = 'microvm';
  readonly #parts: WorkshopParts;
  readonly #workshop: Workshop;
  /** Of the network `bridge`, for `check()`. */
  #network: NetworkSettings | undefined;
  /** Aborted when this runtime is disposed. */
  readonly #closing: AbortController;
  readonly #held = new Map<string, MicrovmSandbox>();
  /** Warm sandboxes by id; undefined while one is made. */
  readonly #warm = new Map<string, MicrovmWarmSandbox | undefined>();
  /** Ids that a `create()` or `adopt()` is busy with. */
  readonly #busy = new Set<string>();

  private constructor(parts: WorkshopParts, workshop: Workshop, closing: AbortController) {
    this.#parts = parts;
    this.#workshop = workshop;
    this.#closing = closing;
  }

  /**
   * Ends the machines of an earlier process that belong to no sandbox, and begins to fill the pool.
   *
   * @throws SandboxError SANDBOX_NOT_PERMITTED; GuestError GUEST_IMAGE_INVALID
   */
  static async open(options: MicrovmRuntimeOptions): Promise<MicrovmRuntime> {
    const stateDir = resolve(options.stateDir);
    const settings = microvmSettings(options);
    const machine = await inspectMachine({ cgroupParent: options.cgroupParent });
    assertPermitted(machine);
    const image = await imageIn(options.guestImage);
    const { useTemplates = true, tidy = true } = options;
    if (tidy) {
      await mkdir(stateDir, { recursive: true, mode: 0o711 });
      await removeHalfFolders(stateDir);
    }
    const vmm = options.vmm ?? new QemuVmm({ stateDir: join(stateDir, QEMU_FOLDER) });
    const networks = await openNetworks(stateDir, options.network);
    const closing = new AbortController();
    const { signal } = closing;
    const userIds = new UserIdClaims();
    const parts = { stateDir, settings, machine, vmm, image, networks, userIds, useTemplates, tidy, signal };
    const runtime = new MicrovmRuntime(parts, await openWorkshop(parts), closing);
    runtime.#network = options.network === undefined ? undefined : networkSettings(options.network);
    if (tidy) await runtime.#removeLost().catch(unlessExpected);
    const { onEvent, poolSize } = settings;
    if (image !== undefined) onEvent({ type: 'starting', vmm: vmm.name, image: image.folder, poolSize });
    runtime.#workshop.pool.fill();
    return runtime;
  }

  async check(): Promise<Requirement[]> {
    const { machine, vmm, image, stateDir } = this.#parts;
    const qemuDir = join(stateDir, QEMU_FOLDER);
    return microvmRequirements(machine, { vmm, guestImage: image?.folder, qemuDir, network: this.#network });
  }

  /** This machine's side of the network `bridge`; undefined where machines have none. */
  get gateway(): Gateway | undefined {
    const { networks } = this.#parts;
    return networks.available ? networks.gateway : undefined;
  }

  /** Closure disks; who removes store paths from the machine has those collected that hold them. */
  get disks(): WorkloadDisks {
    return this.#workshop.disks;
  }

  /**
   * Prepares a sandbox; its machine is claimed when it starts. What an ended or crashed one of the same id left behind is
   * removed.
   *
   * @throws SandboxError SANDBOX_SPEC_INVALID, SANDBOX_ID_TAKEN, SANDBOX_SOURCE_NOT_FOUND, SANDBOX_NETWORK_FAILED
   */
  async create(spec: SandboxSpec): Promise<Sandbox> {
    return this.#make(spec, async (record, files) => this.#hold(record, files, { spec }));
  }

  /**
   * Makes a sandbox whose program is executed by `invoke()`. It ends with this process.
   *
   * @throws SandboxError as `create()` and `start()`
   */
  async warm(spec: SandboxSpec): Promise<WarmSandbox> {
    return this.#make(spec, async (_, files) => {
      this.#warm.set(spec.id, undefined);
      const onRemoved = () => this.#warm.delete(spec.id);
      const sandbox = await MicrovmWarmSandbox.open({ spec, files, workshop: this.#workshop, onRemoved });
      this.#warm.set(spec.id, sandbox);
      return sandbox;
    });
  }

  async adopt(record: SandboxRecord): Promise<Sandbox | undefined> {
    const wanted = parseRecord(JSON.stringify(record), 'microvm');
    if (wanted === undefined) return undefined;
    const held = this.#held.get(wanted.id);
    if (held !== undefined) return held.record.instance === wanted.instance ? held : undefined;
    return this.#alone(wanted.id, async () => {
      const files = new MicrovmFiles(this.#parts.stateDir, wanted.id);
      const present = await files.readRecord();
      if (present?.instance !== wanted.instance) return undefined;
      if (await this.#isWarm(wanted.id, files)) return undefined;
      return this.#adopt(present, files);
    });
  }

  async list(): Promise<SandboxRecord[]> {
    const { stateDir } = this.#parts;
    const names = (await namesIn(stateDir)).filter(isSandboxId);
    const records = await Promise.all(names.map((id) => new MicrovmFiles(stateDir, id).readRecord()));
    return records.filter((record) => record !== undefined);
  }

  async clean({ dryRun, orphaned = false }: CleanOptions): Promise<Leftover[]> {
    const { stateDir, machine, userIds, networks } = this.#parts;
    const { machines } = this.#workshop;
    const dead: MicrovmFiles[] = [];
    for (const { id } of await this.list()) {
      const files = new MicrovmFiles(stateDir, id);
      if (!this.#inUse(id) && (orphaned || !(await this.#mayLive(id, files)))) dead.push(files);
    }
    const lost = await this.#lostMachines();
    const gone = [...lost, ...(await this.#machinesOf(dead))];
    const isOwned = async (id: string) => !gone.includes(id) && existsSync(machines.folderOf(id));
    const found: Leftover[] = [
      ...(await this.#halfFolders()).map((name) => ({ kind: 'folder' as const, name })),
      ...dead.map(({ folder: name }) => ({ kind: 'sandbox' as const, name })),
      ...lost.map((id) => ({ kind: 'sandbox' as const, name: machines.folderOf(id) })),
      ...(await networks.clean({ isOwned, thorough: true, dryRun: true })),
      ...(await this.#unusedImages(gone)).map((name) => ({ kind: 'image' as const, name })),
    ];
    if (dryRun) return found;
    for (const files of dead) await this.#removeAll(files);
    for (const id of lost) await machines.remove(id);
    await networks.clean({ isOwned, thorough: true, dryRun });
    for (const { kind, name } of found) if (kind === 'folder' || kind === 'image') await removeTree(name);
    await removeEmptyParents(machine.cgroups);
    await userIds.sweep();
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { machine, userIds, tidy } = this.#parts;
    this.#closing.abort(new Error('The runtime is closed'));
    const all = [...this.#held.values(), ...this.#warm.values()];
    await Promise.all(all.map(async (sandbox) => sandbox?.[Symbol.asyncDispose]()));
    await this.#workshop.pool[Symbol.asyncDispose]();
    if (!tidy) return;
    await removeEmptyParents(machine.cgroups);
    await userIds.sweep();
  }

  async #make<T>(spec: SandboxSpec, use: (record: SandboxRecord, files: MicrovmFiles) => Promise<T>): Promise<T> {
    validateSpec(spec);
    if (this.#parts.image === undefined) throw withoutImage(spec.id);
    assertNetwork(spec, this.#parts.networks);
    assertSources(spec.closure);
    return this.#alone(spec.id, async () => {
      const files = new MicrovmFiles(this.#parts.stateDir, spec.id);
      await this.#clear(spec.id, files);
      const created = new Date().toISOString();
      const record: SandboxRecord = { version: 1, runtime: 'microvm', id: spec.id, instance: randomUUID(), created };
      files.make(record);
      return use(record, files);
    });
  }

  async #adopt(record: SandboxRecord, files: MicrovmFiles): Promise<Sandbox | undefined> {
    const { machines, disks } = this.#workshop;
    const known = await files.machine();
    const exit = await files.exit();
    if (exit !== undefined) {
      // Its process was killed before it came to that.
      if (known !== undefined) await machines.remove(known.vm.id);
      return this.#hold(record, files, { exit });
    }
    if (known === undefined || !files.started) {
      await this.#removeAll(files);
      return undefined;
    }
    const hold = known.disk.length === 0 ? undefined : (await disks.disk(known.disk)).hold();
    const log = await OutputLog.open(files.folder, this.#parts.settings.logBytes);
    const what = `the sandbox "${record.id}" again`;
    let reason = 'its virtual machine ended while no node was there to see how';
    try {
      const machine = await machines.reattach(known.vm, { what, have: log.positions });
      const state = machine?.connection.welcome.state;
      if (machine !== undefined && (state === 'running' || state === 'exited')) {
        return this.#hold(record, files, { running: { machine, log, hold, logRate: known.logRate } });
      }
      await machine?.destroy();
      if (machine !== undefined) {
        await log[Symbol.asyncDispose]();
        await this.#removeAll(files);
        return undefined;
      }
    } catch (error) {
      if (!(error instanceof SandboxError)) throw error;
      reason = error.message;
    }
    hold?.[Symbol.dispose]();
    await log[Symbol.asyncDispose]();
    await machines.remove(known.vm.id);
    files.keepExit({ outOfMemory: false, reason });
    return this.#hold(record, files, { exit: { outOfMemory: false, reason } });
  }

  /** Removes the leftovers of an earlier sandbox; throws when there is one that somebody still wants. */
  async #clear(id: string, files: MicrovmFiles): Promise<void> {
    if (this.#held.has(id)) throw taken(id);
    if (!files.exists) return;
    if (await this.#isWarm(id, files)) throw taken(id);
    if (await this.#lives(id, files)) throw taken(id);
    await this.#removeAll(files);
  }

  /** Whether a program runs in its machine, or a warm one waits for it. */
  async #lives(id: string, files: MicrovmFiles): Promise<boolean> {
    if (await this.#isWarm(id, files)) return true;
    const vm = (await files.machine())?.vm;
    if (vm === undefined || !files.started || (await files.exit()) !== undefined) return false;
    const found = await this.#parts.vmm.reattach(vm);
    await found?.[Symbol.asyncDispose]();
    return found !== undefined;
  }

  /** As {@link #lives}, whatever VMM it has, and without a word to that: it would end one that was cut short. */
  async #mayLive(id: string, files: MicrovmFiles): Promise<boolean> {
    const vm = (await files.machine())?.vm;
    const isStarted = vm !== undefined && files.started && (await files.exit()) === undefined;
    if (!isStarted) return this.#isWarm(id, files);
    const { hierarchies } = this.#parts.machine.cgroups;
    return (await new SandboxCgroup(hierarchies, vm.id).processes()).length > 0 || this.#lives(id, files);
  }

  async #removeAll(files: MicrovmFiles): Promise<void> {
    const vm = (await files.machine())?.vm;
    if (vm !== undefined) await this.#workshop.machines.remove(vm.id);
    await files.remove();
  }

  /** Removes machines that no sandbox has, of processes that are gone, and networks that no machine has. */
  async #removeLost(): Promise<void> {
    const { machines } = this.#workshop;
    for (const id of await this.#lostMachines()) await machines.remove(id);
    const isOwned = async (id: string) => existsSync(machines.folderOf(id));
    await this.#parts.networks.clean({ isOwned, thorough: false, dryRun: false });
  }

  /** Machines of processes that are gone, and of no sandbox. */
  async #lostMachines(): Promise<string[]> {
    const { stateDir } = this.#parts;
    const kept = await this.#machinesOf((await this.list()).map(({ id }) => new MicrovmFiles(stateDir, id)));
    return this.#workshop.machines.lost((id) => kept.includes(id));
  }

  async #machinesOf(sandboxes: readonly MicrovmFiles[]): Promise<string[]> {
    const known = await Promise.all(sandboxes.map((files) => files.machine()));
    return known.flatMap((machine) => machine?.vm.id ?? []);
  }

  async #halfFolders(): Promise<string[]> {
    return [...(await halfFolders(this.#parts.stateDir)), ...(await this.#workshop.machines.half())];
  }

  /** Disks and templates, unless there is a machine, or a runtime, that may need them. */
  async #unusedImages(gone: readonly string[]): Promise<string[]> {
    const { machines, disks, templateDir } = this.#workshop;
    const { tidy, settings } = this.#parts;
    if (tidy || !(await machines.names()).every((id) => gone.includes(id))) return [];
    // Others may share the templates of another folder.
    const own = settings.templateDir === undefined ? await namesIn(templateDir) : [];
    return [...(await disks.files()), ...own.map((name) => join(templateDir, name))];
  }

  /** Whether it is a warm sandbox, which belongs to the process that made it, and that process is alive. */
  async #isWarm(id: string, files: MicrovmFiles): Promise<boolean> {
    if (this.#warm.has(id)) return true;
    const owner = await files.owner();
    return owner !== undefined && owner.pid !== process.pid && (await isAlive(owner));
  }

  #inUse(id: string): boolean {
    return this.#held.has(id) || this.#warm.has(id) || this.#busy.has(id);
  }

  /** One `create()` or `adopt()` of an id at a time. */
  async #alone<T>(id: string, task: () => Promise<T>): Promise<T> {
    if (this.#busy.has(id)) throw taken(id);
    this.#busy.add(id);
    try {
      return await task();
    } finally {
      this.#busy.delete(id);
    }
  }

  #hold(
    record: SandboxRecord,
    files: MicrovmFiles,
    state: Pick<ConstructorParameters<typeof MicrovmSandbox>[0], 'spec' | 'running' | 'exit'>,
  ): MicrovmSandbox {
    const sandbox = new MicrovmSandbox({
      record,
      files,
      workshop: this.#workshop,
      logBytes: this.#parts.settings.logBytes,
      ...state,
      onReleased: () => {
        if (this.#held.get(record.id) === sandbox) this.#held.delete(record.id);
      },
    });
    this.#held.set(record.id, sandbox);
    return sandbox;
  }
}

/** It stays written down, and whoever cleans on purpose is told why it cannot be removed. */
function unlessExpected(error: unknown): undefined {
  if (!isNexError(error)) throw error;
}

async function imageIn(guestImage: string | undefined): Promise<GuestImage | undefined> {
  if (guestImage === undefined) return undefined;
  const folder = resolve(guestImage);
  return { folder, manifest: await readGuestImage(folder) };
}
