import { randomUUID } from 'node:crypto';
import { mkdir, readdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { prepareCgroups, removeEmptyParents, SandboxCgroup } from '../cgroup/cgroup.ts';
import type { Hierarchy } from '../cgroup/cgroup-layout.ts';
import { unsupportedLimits } from '../cgroup/cgroup-limits.ts';
import { findExecutable } from '../find-executable.ts';
import { inspectMachine, type Machine } from '../machine.ts';
import { ociConfig } from '../bundle/oci-config.ts';
import { ociRequirements } from './oci-requirements.ts';
import { OciSandbox, type StartInput } from './oci-sandbox.ts';
import { isAlive, untilGone } from '../supervisor/process-identity.ts';
import { writeRootfs } from '../bundle/rootfs.ts';
import { Networks } from '../network/networks.ts';
import { SandboxError } from '../sandbox-error.ts';
import { parseRecord, removeHalfFolders, SandboxFiles } from './sandbox-files.ts';
import type { Requirement, Runtime, Sandbox, SandboxRecord, SandboxSpec } from '../sandbox.ts';
import { startedHook } from '../supervisor/supervisor.ts';
import { allocateIds } from '../bundle/user-ids.ts';
import { isSandboxId, validateSpec } from '../validate-spec.ts';

/** Name of the program's user and group inside. */
const INSIDE_ID = 1000;

export interface OciRuntimeOptions {
  /** Where sandboxes are kept, a folder each. For one runtime at a time. */
  stateDir: string;
  /** The OCI runtime: crun, or one that takes the same arguments. @default 'crun' */
  command?: string;
  /** Leave out the limits that this machine cannot enforce, instead of refusing. @default false */
  allowUnlimited?: boolean;
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
  readonly #networks = new Networks();
  readonly #held = new Map<string, OciSandbox>();
  /** Ids that a `create()` or `adopt()` is busy with. */
  readonly #busy = new Set<string>();

  private constructor(machine: Machine, closed: boolean, options: OciRuntimeOptions) {
    const { stateDir, command = 'crun', allowUnlimited = false } = options;
    this.#machine = machine;
    this.#closed = closed;
    this.#stateDir = resolve(stateDir);
    this.#command = command;
    this.#allowUnlimited = allowUnlimited;
  }

  /** Looks at the machine, and changes nothing of it but to make the state folder, or to tidy it up. */
  static async open(options: OciRuntimeOptions): Promise<OciRuntime> {
    await mkdir(options.stateDir, { recursive: true, mode: 0o711 });
    await removeHalfFolders(resolve(options.stateDir));
    return new OciRuntime(await inspectMachine(), await isClosed(resolve(options.stateDir)), options);
  }

  async check(): Promise<Requirement[]> {
    return ociRequirements(this.#machine, { command: this.#command, closed: this.#closed });
  }

  /**
   * Prepares a sandbox. What an ended or crashed one of the same id left behind is removed.
   *
   * @throws SandboxError SANDBOX_SPEC_INVALID, SANDBOX_NOT_PERMITTED, SANDBOX_RUNTIME_MISSING,
   *   SANDBOX_LIMIT_UNSUPPORTED, SANDBOX_ID_TAKEN, SANDBOX_SOURCE_NOT_FOUND
   */
  async create(spec: SandboxSpec): Promise<Sandbox> {
    validateSpec(spec);
    this.#assertPermitted();
    const runtime = await this.#findRuntime();
    return this.#alone(spec.id, async () => {
      const hierarchies = await prepareCgroups(this.#machine.cgroups);
      this.#assertLimits(spec, hierarchies);
      const files = new SandboxFiles(this.#stateDir, spec.id);
      const cgroup = new SandboxCgroup(hierarchies, spec.id);
      await this.#clear(spec.id, files, cgroup);
      return this.#write(spec, { files, cgroup, runtime });
    });
  }

  async adopt(record: SandboxRecord): Promise<Sandbox | undefined> {
    const wanted = parseRecord(JSON.stringify(record));
    if (wanted === undefined) return undefined;
    const held = this.#held.get(wanted.id);
    if (held !== undefined) return held.record.instance === wanted.instance ? held : undefined;
    return this.#alone(wanted.id, async () => {
      const files = new SandboxFiles(this.#stateDir, wanted.id);
      const present = await files.readRecord();
      if (present?.instance !== wanted.instance) return undefined;
      const cgroup = new SandboxCgroup(this.#machine.cgroups.hierarchies, wanted.id);
      if ((await files.supervisor()) === undefined && (await files.exit()) === undefined) {
        await cgroup.remove();
        await this.#networks.detach(wanted.id);
        await files.remove();
        return undefined;
      }
      return this.#hold(present, { files, cgroup });
    });
  }

  async list(): Promise<SandboxRecord[]> {
    const names = (await readdir(this.#stateDir)).filter(isSandboxId);
    const records = await Promise.all(names.map((id) => new SandboxFiles(this.#stateDir, id).readRecord()));
    return records.filter((record) => record !== undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#held.values()].map((sandbox) => sandbox[Symbol.asyncDispose]()));
    await removeEmptyParents(this.#machine.cgroups);
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
    const supervisor = await files.supervisor();
    if (this.#held.has(id)) throw taken(id);
    if (supervisor !== undefined) {
      if ((await files.exit()) !== undefined) await untilGone(supervisor);
      else if (await isAlive(supervisor)) throw taken(id);
    }
    const processes = await cgroup.processes();
    // Without a folder they are those of another state folder. With one, they have lost their supervisor.
    if (processes.length > 0 && supervisor === undefined) throw taken(id);
    await cgroup.remove();
    await this.#networks.detach(id);
    await files.remove();
  }

  async #write(
    spec: SandboxSpec,
    { files, cgroup, runtime }: { files: SandboxFiles; cgroup: SandboxCgroup; runtime: string },
  ): Promise<Sandbox> {
    const { userNamespaces, idExtents, maxFiles, oomScoreAdj, cgroups } = this.#machine;
    const hostIds = allocateIds(idExtents, `${this.#stateDir}\0${spec.id}`);
    const insideId = userNamespaces ? INSIDE_ID : hostIds.user;
    const user = { uid: insideId, gid: insideId };
    const created = new Date().toISOString();
    const record: SandboxRecord = { version: 1, runtime: 'oci', id: spec.id, instance: randomUUID(), created };
    try {
      await files.make(record);
      const { namespace: networkNamespace, resolvConf } = await this.#networks.attach(spec);
      const rootId = userNamespaces ? hostIds.root : 0;
      const mounts = await writeRootfs(files.rootfs, spec, { user, rootId, resolvConf });
      const { privateFolder } = spec;
      if (privateFolder !== undefined) await files.makePrivate(privateFolder.files, hostIds.user);
      const config = ociConfig({
        spec,
        mounts,
        privateSource: files.privateFolder,
        user,
        networkNamespace,
        hostIds: userNamespaces ? hostIds : undefined,
        maxFiles,
        oomScoreAdj,
        onStarted: startedHook(files, cgroup, spec.resources.pids),
        arch: process.arch,
      });
      // The configuration holds the environment: it is on disk only while the program starts.
      return this.#hold(record, {
        files,
        cgroup,
        start: {
          spec,
          config: JSON.stringify(config),
          runtime,
          hide: cgroups.hide,
          mountRoot: this.#closed,
          owner: hostIds.user,
        },
      });
    } catch (error) {
      await this.#networks.detach(spec.id);
      await files.remove();
      throw error;
    }
  }

  #hold(record: SandboxRecord, parts: { files: SandboxFiles; cgroup: SandboxCgroup; start?: StartInput }): OciSandbox {
    const sandbox = new OciSandbox({
      record,
      ...parts,
      networks: this.#networks,
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

function taken(id: string): SandboxError {
  return new SandboxError('SANDBOX_ID_TAKEN', `Cannot make the sandbox "${id}": there is one of that id`, {
    hint: 'Stop and remove it first, or choose another id',
  });
}
