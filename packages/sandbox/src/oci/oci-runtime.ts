import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { areParentsThere, cgroupParents, prepareCgroups, removeEmptyParents, SandboxCgroup } from '../cgroup/cgroup.ts';
import { entryFile, type Hierarchy } from '../cgroup/cgroup-layout.ts';
import { unsupportedLimits } from '../cgroup/cgroup-limits.ts';
import { findExecutable } from '../find-executable.ts';
import { inspectMachine, type Machine } from '../machine.ts';
import { ociConfig } from '../bundle/oci-config.ts';
import { removeLeftovers, removeLostNetworks } from './leftovers.ts';
import { ociRequirements } from './oci-requirements.ts';
import { OciSandbox } from './oci-sandbox.ts';
import type { StartInput } from './start-program.ts';
import { isAlive, untilGone } from '../supervisor/process-identity.ts';
import { writeRootfs } from '../bundle/rootfs.ts';
import type { NetworkOptions } from '../network/network-options.ts';
import { Networks } from '../network/networks.ts';
import { SandboxError } from '../sandbox-error.ts';
import { namesIn, parseRecord, removeHalfFolders } from '../sandbox-folder.ts';
import { SandboxFiles } from './sandbox-files.ts';
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
import { SpareSupervisors } from '../supervisor/spare-supervisors.ts';
import { UserIdClaims } from '../bundle/user-id-claims.ts';
import { isSandboxId, validateSpec } from '../validate-spec.ts';
import { gateFor } from '../warm/gate.ts';
import { OciWarmSandbox, type PreparedSandbox, type SandboxCommand } from '../warm/oci-warm-sandbox.ts';

/** Name of the program's user and group inside. */
const INSIDE_ID = 1000;

const LOG_BYTES = 8 * 1024 * 1024;

export interface OciRuntimeOptions {
  /** Where sandboxes are kept, a folder each. For one runtime at a time. */
  stateDir: string;
  /** The OCI runtime: crun, or one that takes the same arguments. @default 'crun' */
  command?: string;
  /**
   * The cgroup that all sandboxes are put below, from the root of the tree: one that exists and is not managed by anybody
   * else, as one of a systemd unit with `Delegate=yes`. @default '/'
   */
  cgroupParent?: string;
  /** Leave out the limits that this machine cannot enforce, instead of refusing. @default false */
  allowUnlimited?: boolean;
  /** Bytes of each output stream that are kept on disk; the oldest go. @default 8 MiB */
  logBytes?: number;
  /** The network `bridge`. Nothing of it is made before a sandbox asks for it. */
  network?: NetworkOptions;
  /**
   * Whether the state folder is made, and what processes that are gone have left is removed at once. Otherwise nothing is
   * touched but by `clean()`, and no sandboxes can be made. @default true
   */
  tidy?: boolean;
}

/** Sandboxes as OCI containers, each run by crun under a supervisor of its own. */
export class OciRuntime implements Runtime {
  readonly name = 'oci';
  readonly #stateDir: string;
  readonly #command: string;
  readonly #allowUnlimited: boolean;
  readonly #machine: Machine;
  /** Not everybody may pass through the folders that lead to the state folder. */
  readonly #closed: boolean;
  readonly #networks: Networks;
  readonly #logBytes: number;
  readonly #tidy: boolean;
  readonly #spares: SpareSupervisors;
  /** Those that can be used, as of the last `create()`. */
  #hierarchies: readonly Hierarchy[] = [];
  readonly #userIds = new UserIdClaims();
  readonly #held = new Map<string, OciSandbox>();
  /** Warm sandboxes by id; undefined while one is made. */
  readonly #warm = new Map<string, OciWarmSandbox | undefined>();
  /** Ids that a `create()` or `adopt()` is busy with. */
  readonly #busy = new Set<string>();

  private constructor(machine: Machine, closed: boolean, options: OciRuntimeOptions) {
    const { stateDir, command = 'crun', allowUnlimited = false, logBytes = LOG_BYTES, tidy = true } = options;
    this.#tidy = tidy;
    this.#machine = machine;
    this.#closed = closed;
    this.#stateDir = resolve(stateDir);
    this.#networks = new Networks({ ...options.network, stateDir });
    this.#command = command;
    this.#allowUnlimited = allowUnlimited;
    this.#logBytes = logBytes;
    this.#spares = new SpareSupervisors(() => ({
      parents: cgroupParents(this.#hierarchies),
      entry: entryFile(this.#hierarchies),
      hide: machine.cgroups.hide,
      mountRoot: closed,
    }));
  }

  /** Looks at the machine, and changes nothing of it but to make the state folder, or to tidy it up. */
  static async open(options: OciRuntimeOptions): Promise<OciRuntime> {
    const { tidy = true } = options;
    const stateDir = resolve(options.stateDir);
    if (tidy) {
      await mkdir(stateDir, { recursive: true, mode: 0o711 });
      await removeHalfFolders(stateDir);
    }
    const machine = await inspectMachine({ cgroupParent: options.cgroupParent });
    if (options.cgroupParent !== undefined) requireParent(options.cgroupParent, machine.cgroups.hierarchies);
    const runtime = new OciRuntime(machine, tidy && (await isClosed(stateDir)), options);
    if (tidy && machine.uid === 0)
      await removeLostNetworks({ stateDir: runtime.#stateDir, networks: runtime.#networks });
    return runtime;
  }

  async check(): Promise<Requirement[]> {
    const requirements = await ociRequirements(this.#machine, { command: this.#command, closed: this.#closed });
    return [...requirements, await this.#networks.check()];
  }

  get gateway(): Gateway {
    return this.#networks.gateway;
  }

  async clean(options: CleanOptions): Promise<Leftover[]> {
    this.#assertPermitted();
    const inUse = (id: string) => this.#held.has(id) || this.#warm.has(id) || this.#busy.has(id);
    const { cgroups } = this.#machine;
    const estate = { stateDir: this.#stateDir, hierarchies: cgroups.hierarchies, networks: this.#networks, inUse };
    const found = await removeLeftovers(estate, options);
    if (!options.dryRun) {
      await removeEmptyParents(cgroups);
      await this.#userIds.sweep();
    }
    return found;
  }

  /**
   * Prepares a sandbox. What an ended or crashed one of the same id left behind is removed.
   *
   * @throws SandboxError SANDBOX_SPEC_INVALID, SANDBOX_NOT_PERMITTED, SANDBOX_RUNTIME_MISSING,
   *   SANDBOX_LIMIT_UNSUPPORTED, SANDBOX_ID_TAKEN, SANDBOX_SOURCE_NOT_FOUND
   */
  async create(spec: SandboxSpec): Promise<Sandbox> {
    return this.#make(spec, async ({ record, configOf, start, ...parts }) =>
      // The configuration holds the environment: it is on disk only while the program starts.
      this.#hold(record, { ...parts, start: { ...start, config: configOf(spec) } }),
    );
  }

  /**
   * Makes a sandbox whose program is executed by `invoke()`. It ends with this process.
   *
   * @throws SandboxError as `create()` and `start()`
   */
  async warm(spec: SandboxSpec): Promise<WarmSandbox> {
    return this.#make(spec, async (parts) => {
      this.#warm.set(spec.id, undefined);
      const onRemoved = () => this.#warm.delete(spec.id);
      const gate = gateFor(process.arch);
      const sandbox = await OciWarmSandbox.open({ ...parts, gate, networks: this.#networks, onRemoved });
      this.#warm.set(spec.id, sandbox);
      return sandbox;
    });
  }

  async #make<T>(spec: SandboxSpec, use: (prepared: PreparedSandbox) => Promise<T>): Promise<T> {
    validateSpec(spec);
    this.#assertPermitted();
    const runtime = await this.#findRuntime();
    return this.#alone(spec.id, async () => {
      const hierarchies = await this.#prepareCgroups();
      this.#assertLimits(spec, hierarchies);
      const files = new SandboxFiles(this.#stateDir, spec.id);
      const cgroup = new SandboxCgroup(hierarchies, spec.id);
      await this.#clear(spec.id, files, cgroup);
      return this.#write(spec, { files, cgroup, runtime }, use);
    });
  }

  async adopt(record: SandboxRecord): Promise<Sandbox | undefined> {
    const wanted = parseRecord(JSON.stringify(record), 'oci');
    if (wanted === undefined) return undefined;
    const held = this.#held.get(wanted.id);
    if (held !== undefined) return held.record.instance === wanted.instance ? held : undefined;
    return this.#alone(wanted.id, async () => {
      const files = new SandboxFiles(this.#stateDir, wanted.id);
      const present = await files.readRecord();
      if (present?.instance !== wanted.instance) return undefined;
      const cgroup = new SandboxCgroup(this.#machine.cgroups.hierarchies, wanted.id);
      if (await this.#isWarm(wanted.id, files)) return undefined;
      if ((await files.supervisor()) === undefined && (await files.exit()) === undefined) {
        await cgroup.remove();
        await this.#networks.detach(wanted.id);
        await files.remove();
        return undefined;
      }
      await cgroup.killCommands();
      return this.#hold(present, { files, cgroup });
    });
  }

  async list(): Promise<SandboxRecord[]> {
    const names = (await namesIn(this.#stateDir)).filter(isSandboxId);
    const records = await Promise.all(names.map((id) => new SandboxFiles(this.#stateDir, id).readRecord()));
    return records.filter((record) => record !== undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = [...this.#held.values(), ...this.#warm.values()];
    await Promise.all(all.map(async (sandbox) => sandbox?.[Symbol.asyncDispose]()));
    await this.#spares[Symbol.asyncDispose]();
    if (!this.#tidy || this.#machine.uid !== 0) return;
    await removeEmptyParents(this.#machine.cgroups);
    await this.#userIds.sweep();
  }

  #assertPermitted(): void {
    if (this.#machine.uid === 0) return;
    throw new SandboxError(
      'SANDBOX_NOT_PERMITTED',
      `Cannot make sandboxes as user ${this.#machine.uid}: mounts, cgroups and user ids need root`,
      { hint: 'Run the node as root, for instance with sudo' },
    );
  }

  async #findRuntime(): Promise<string> {
    const path = await findExecutable(this.#command);
    if (path !== undefined) return path;
    throw new SandboxError('SANDBOX_RUNTIME_MISSING', `Cannot find the OCI runtime "${this.#command}" on PATH`, {
      hint: 'apt-get install crun',
    });
  }

  #assertLimits(spec: SandboxSpec, hierarchies: readonly Hierarchy[]): void {
    const unsupported = unsupportedLimits(hierarchies, spec.resources);
    if (unsupported.length === 0 || this.#allowUnlimited) return;
    throw new SandboxError(
      'SANDBOX_LIMIT_UNSUPPORTED',
      `Cannot limit ${unsupported.join(', ')} of the sandbox "${spec.id}": this machine offers no cgroup controller for it`,
      { hint: 'cat /proc/cgroups /sys/fs/cgroup/cgroup.subtree_control' },
    );
  }

  async #prepareCgroups(): Promise<readonly Hierarchy[]> {
    // Another runtime of this machine may have removed what it found empty.
    if (this.#hierarchies.length === 0 || !areParentsThere(this.#hierarchies)) {
      this.#hierarchies = await prepareCgroups(this.#machine.cgroups);
    }
    return this.#hierarchies;
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

  /** Removes the leftovers of an earlier sandbox; throws when there is one that somebody still wants. */
  async #clear(id: string, files: SandboxFiles, cgroup: SandboxCgroup): Promise<void> {
    if (this.#held.has(id)) throw taken(id);
    if (!files.exists && !cgroup.exists) return this.#networks.detach(id);
    const supervisor = await files.supervisor();
    if (await this.#isWarm(id, files)) throw taken(id);
    if (supervisor !== undefined) {
      if ((await files.exit()) !== undefined) await untilGone(supervisor);
      else if (await isAlive(supervisor)) throw taken(id);
    }
    const processes = await cgroup.processes();
    // Without a folder they are those of another state folder. With one, they have lost their supervisor.
    if (processes.length > 0 && supervisor === undefined && (await files.owner()) === undefined) throw taken(id);
    await cgroup.remove();
    await this.#networks.detach(id);
    await files.remove();
  }

  async #write<T>(
    spec: SandboxSpec,
    { files, cgroup, runtime }: { files: SandboxFiles; cgroup: SandboxCgroup; runtime: string },
    use: (prepared: PreparedSandbox) => Promise<T>,
  ): Promise<T> {
    const { userNamespaces, idExtents, rlimits, oomScoreAdj, cgroups } = this.#machine;
    const created = new Date().toISOString();
    const record: SandboxRecord = { version: 1, runtime: 'oci', id: spec.id, instance: randomUUID(), created };
    try {
      await files.make(record);
      const hostIds = await this.#userIds.claim(idExtents, files.folder);
      const insideId = userNamespaces ? INSIDE_ID : hostIds.user;
      const user = { uid: insideId, gid: insideId };
      const { namespace: networkNamespace, resolvConf } = await this.#networks.attach(spec);
      const rootId = userNamespaces ? hostIds.root : 0;
      const mounts = await writeRootfs(files.rootfs, spec, { user, rootId, resolvConf });
      const { privateFolder } = spec;
      if (privateFolder !== undefined) await files.makePrivate(privateFolder.files, hostIds.user);
      const configOf = (command: SandboxCommand) =>
        JSON.stringify(
          ociConfig({
            spec: { ...spec, ...command },
            mounts,
            privateSource: files.privateFolder,
            user,
            networkNamespace,
            hostIds: userNamespaces ? hostIds : undefined,
            rlimits,
            oomScoreAdj,
            arch: process.arch,
          }),
        );
      const { hide } = cgroups;
      const start = { spec, runtime, hide, mountRoot: this.#closed, owner: hostIds.user, logBytes: this.#logBytes };
      return await use({ record, files, cgroup, configOf, start });
    } catch (error) {
      await this.#networks.detach(spec.id);
      await files.remove();
      throw error;
    }
  }

  /** Whether it is a warm sandbox, which belongs to the process that made it, and that process is alive. */
  async #isWarm(id: string, files: SandboxFiles): Promise<boolean> {
    if (this.#warm.has(id)) return true;
    const owner = await files.owner();
    return owner !== undefined && owner.pid !== process.pid && (await isAlive(owner));
  }

  #hold(record: SandboxRecord, parts: { files: SandboxFiles; cgroup: SandboxCgroup; start?: StartInput }): OciSandbox {
    const sandbox = new OciSandbox({
      record,
      ...parts,
      networks: this.#networks,
      spares: this.#spares,
      exec: { findRuntime: () => this.#findRuntime(), hide: this.#machine.cgroups.hide },
      onReleased: () => {
        if (this.#held.get(record.id) === sandbox) this.#held.delete(record.id);
      },
    });
    this.#held.set(record.id, sandbox);
    return sandbox;
  }
}

/**
 * Whether a folder or one above it lets only its owner pass. crun since 1.20 walks from a sandbox's root up to the next
 * mount, as the sandbox's root user, and fails at such a folder; it does not if the root is a mount itself.
 */
async function isClosed(folder: string): Promise<boolean> {
  for (let path = folder; ; path = dirname(path)) {
    if (((await stat(path)).mode & 0o001) === 0) return true;
    if (path === dirname(path)) return false;
  }
}

/** One that is absent would be taken for a machine that has no controllers. */
function requireParent(cgroupParent: string, hierarchies: readonly Hierarchy[]): void {
  const missing = hierarchies.map(({ parent }) => dirname(parent)).find((folder) => !existsSync(folder));
  if (missing === undefined) return;
  throw new SandboxError(
    'SANDBOX_LIMIT_UNSUPPORTED',
    `Cannot put sandboxes below the cgroup "${cgroupParent}": "${missing}" does not exist`,
    { hint: 'Name one that exists, for instance of a systemd slice that a running unit with Delegate=yes is in' },
  );
}

function taken(id: string): SandboxError {
  return new SandboxError('SANDBOX_ID_TAKEN', `Cannot make the sandbox "${id}": there is one of that id`, {
    hint: 'Stop and remove it first, or choose another id',
  });
}
