import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { hasErrno } from '../file-errors.ts';
import { SandboxError } from '../sandbox-error.ts';
import { isAlive, type ProcessIdentity } from '../supervisor/process-identity.ts';
import type { Gateway, Leftover, Network, Requirement, SandboxSpec, Usage } from '../sandbox.ts';
import { type AttachmentRecord, AttachmentRecords } from './attachment-records.ts';
import { Bridge } from './bridge.ts';
import { CniNetwork, type NetworkResult, readConflist } from './cni-network.ts';
import { findTraces, removeTraces, type Trace } from './container-traces.ts';
import { checkPorts, claimPorts } from './exposed-ports.ts';
import { firewallChains, removeFirewall } from './firewall.ts';
import {
  hasProcesses,
  isNamespace,
  makeNamespace,
  namespaceFile,
  namespacesWith,
  removeNamespace,
} from './network-namespace.ts';
import { type NetworkOptions, networkSettings, type NetworkSettings } from './network-options.ts';
import { networkUsage } from './network-usage.ts';
import { networkRequirement } from './network-requirement.ts';
import { Openings } from './openings.ts';
import { addressesOf, connectionOf, insideOf, ipv4Of } from './plugin-result.ts';
import { bridgeResolver, hostResolvConf } from './resolv-conf.ts';

/** Whoever connects something has finished by then. */
const SETTLED_MS = 60_000;

/** How a sandbox is connected. */
export interface Attachment {
  /** File of the network namespace that it joins; undefined: this machine's own with `host`, a new one with `none`. */
  namespace: string | undefined;
  /** Addresses at which this machine reaches it. */
  addresses: readonly string[];
  /** Text of its `/etc/resolv.conf`. */
  resolvConf: string;
}

/** What the plugins have made in a namespace that was prepared. */
export interface Prepared {
  /** Its name. */
  namespace: string;
  /** Interface that the plugins have made there. */
  inside: string;
  /** IPv4 addresses with their prefixes. */
  addresses: readonly string[];
  gateways: readonly string[];
  /** Text of `/etc/resolv.conf`. */
  resolvConf: string;
}

/**
 * The networks of a runtime's sandboxes. With `bridge` each has a network namespace of its own, which CNI plugins connect.
 * All that is made for one bears its container id, `nex-<state folder>-<id>`, and is written down before it is made: a
 * process that is killed leaves nothing that a later one does not find.
 */
export class Networks {
  readonly #settings: NetworkSettings;
  readonly #stateDir: string;
  readonly #records: AttachmentRecords;
  readonly #openings: Openings;
  /** Begins all container ids of this state folder. */
  readonly #prefix: string;
  /** Where the plugin `host-local` keeps addresses. */
  readonly #addresses: string;
  /** Ports of this machine that sandboxes may reach at the gateway address. */
  #ports: readonly number[] = [];
  /** Configurations whose plugins are known to be there and to understand them. */
  readonly #checked = new Set<string>();
  /** The last change of each folder of records: runtimes of one process share a bridge, and what they find at it. */
  static readonly #last = new Map<string, Promise<unknown>>();

  /** Touches nothing. `stateDir`: tells these sandboxes from those of other runtimes on this machine. */
  constructor({ stateDir, ...options }: NetworkOptions & { stateDir: string }) {
    this.#stateDir = resolve(stateDir);
    const owner = createHash('sha256').update(this.#stateDir).digest('hex').slice(0, 8);
    this.#settings = networkSettings(options);
    this.#prefix = `nex-${owner}-`;
    const { runDir } = this.#settings;
    this.#addresses = join(runDir, 'addresses');
    this.#records = new AttachmentRecords(runDir);
    this.#openings = new Openings(runDir, owner);
  }

  /**
   * Connects a sandbox that is about to be made. What it needs is made then, and taken back when it fails.
   *
   * @throws SandboxError SANDBOX_NETWORK_FAILED, SANDBOX_PORT_TAKEN, SANDBOX_SPEC_INVALID
   */
  async attach(spec: Pick<SandboxSpec, 'id' | 'network' | 'exposePorts'>): Promise<Attachment> {
    const { network, id } = spec;
    if (network !== 'bridge') return attachmentWithout(network);
    checkPorts(spec);
    const containerId = this.#prefix + id;
    return this.#alone(async () => {
      await this.#takeBack(containerId);
      try {
        return await this.#connect(containerId, spec);
      } catch (error) {
        await this.#takeBack(containerId);
        throw connecting(error, id);
      }
    });
  }

  /**
   * Makes the namespace of something that is connected later; `furnish` gets its name. Gives the name. What was there for
   * that id is taken back first, and all of it when it fails.
   *
   * @throws SandboxError SANDBOX_NETWORK_FAILED
   */
  async prepare(id: string, furnish: (namespace: string) => Promise<void>): Promise<string> {
    const containerId = this.#prefix + id;
    await this.detach(id);
    try {
      // Nobody else looks at what has this id and no network yet: no other change has to wait.
      await this.#records.write({ version: 1, containerId, id, stateDir: this.#stateDir, ports: [] });
      await makeNamespace(containerId);
      await furnish(containerId);
      return containerId;
    } catch (error) {
      await this.detach(id);
      throw connecting(error, id);
    }
  }

  /**
   * Connects what was prepared for a sandbox, and has `finish` do what is left; what of a call that failed there is goes
   * with `detach()`.
   *
   * @throws SandboxError SANDBOX_NETWORK_FAILED, SANDBOX_PORT_TAKEN, SANDBOX_SPEC_INVALID
   */
  async connect<T>(
    id: string,
    spec: Pick<SandboxSpec, 'id' | 'exposePorts'>,
    finish: (made: Prepared) => Promise<T>,
  ): Promise<T> {
    checkPorts(spec);
    const containerId = this.#prefix + id;
    return this.#alone(async () => {
      try {
        if (!(await isNamespace(containerId))) throw notPrepared(containerId);
        const { record, result } = await this.#plug(containerId, spec);
        const inside = insideOf(result);
        if (inside === undefined) throw unknownInterfaces();
        const { text: resolvConf } = await bridgeResolver(this.#settings.dns);
        const made = await finish({ namespace: containerId, inside, ...ipv4Of(result), resolvConf });
        await this.#records.write({ ...record, result });
        return made;
      } catch (error) {
        throw connecting(error, spec.id);
      }
    });
  }

  /** How a sandbox is connected that was attached before, by whatever process; undefined when it is not. */
  async find(id: string): Promise<(Omit<Attachment, 'resolvConf'> & { name: string; inside?: string }) | undefined> {
    const name = this.#prefix + id;
    const result = (await this.#records.read(name))?.result;
    if (result === undefined) return undefined;
    const inside = insideOf(result);
    const found = { name, namespace: namespaceFile(name), addresses: addressesOf(result) };
    return inside === undefined ? found : { ...found, inside };
  }

  /** Takes back everything that `attach()` made for a sandbox. Nothing happens when there is nothing. */
  async detach(id: string): Promise<void> {
    const containerId = this.#prefix + id;
    if (!this.#isKnown(containerId)) return;
    await this.#alone(() => this.#takeBack(containerId));
  }

  /** Addresses at which this machine reaches a sandbox whose first process is `program`. */
  async addresses(id: string, program: ProcessIdentity | undefined): Promise<readonly string[]> {
    const attached = await this.find(id);
    if (attached !== undefined) return attached.addresses;
    return program !== undefined && (await sharesNetwork(program.pid)) ? ['127.0.0.1'] : [];
  }

  /** What went over the network of a sandbox; undefined when it has none of its own, or has ended. */
  async usage(id: string, program: ProcessIdentity | undefined): Promise<Usage['network']> {
    if (program === undefined || (await this.find(id)) === undefined) return undefined;
    return (await isAlive(program)) ? networkUsage(program.pid) : undefined;
  }

  /** This machine's side of the bridge. */
  get gateway(): Gateway {
    return {
      open: () => this.#alone(() => this.#openBridge()),
      allow: (ports) =>
        this.#alone(async () => {
          this.#ports = [...ports];
          await this.#openBridge();
        }),
      exists: async () => this.#settings.conflist === undefined && (await this.#bridge().exists()),
    };
  }

  async check(): Promise<Requirement> {
    return networkRequirement(this.#settings);
  }

  /**
   * Removes what is there for sandboxes of this state folder that nobody owns, and gives what that was. `thorough`: looks
   * also for what is not written down, and for a bridge that nothing is connected to.
   */
  async clean(options: {
    isOwned: (id: string) => Promise<boolean>;
    /** Whether what another state folder has connected is nobody's any more. */
    isAbandoned?: (record: AttachmentRecord) => Promise<boolean>;
    thorough: boolean;
    dryRun: boolean;
  }): Promise<Leftover[]> {
    return this.#alone(async () => {
      const { isOwned, isAbandoned, thorough, dryRun } = options;
      const known = [...(await this.#records.ids()), ...(await namespacesWith(this.#prefix))];
      const ids = new Set(known.filter((containerId) => containerId.startsWith(this.#prefix)));
      const traces = thorough || ids.size > 0 ? await findTraces(this.#prefix, this.#addresses) : [];
      if (thorough) for (const { containerId } of traces) ids.add(containerId);
      const found: Leftover[] = [];
      const lost: string[] = [];
      const take = async (containerId: string, of: readonly Trace[]) => {
        lost.push(containerId);
        found.push(...of.map(({ kind, name }) => ({ kind, name })));
        if (!dryRun) await this.#takeBack(containerId);
      };
      for (const containerId of ids) {
        if (await isOwned(containerId.slice(this.#prefix.length))) continue;
        await take(
          containerId,
          traces.filter((trace) => trace.containerId === containerId),
        );
      }
      if (isAbandoned !== undefined) {
        for (const containerId of await this.#abandoned(isAbandoned)) {
          const of = await findTraces(containerId, this.#addresses);
          await take(
            containerId,
            of.filter((trace) => trace.containerId === containerId),
          );
        }
      }
      return thorough ? [...found, ...(await this.#cleanBridge(lost, dryRun))] : found;
    });
  }

  /** Container ids of other state folders. What was written just now is not looked at: it may be under way. */
  async #abandoned(isAbandoned: (record: AttachmentRecord) => Promise<boolean>): Promise<string[]> {
    const found: string[] = [];
    for (const containerId of await this.#records.ids()) {
      if (containerId.startsWith(this.#prefix)) continue;
      const record = await this.#records.read(containerId);
      const writtenAt = (await this.#records.writtenAt(containerId)) ?? Date.now();
      if (record === undefined || Date.now() - writtenAt < SETTLED_MS) continue;
      if (!(await hasProcesses(containerId)) && (await isAbandoned(record))) found.push(containerId);
    }
    return found;
  }

  async #connect(containerId: string, spec: Pick<SandboxSpec, 'id' | 'exposePorts'>): Promise<Attachment> {
    const { record, result } = await this.#plug(containerId, spec, () => makeNamespace(containerId));
    await this.#records.write({ ...record, result });
    const { text: resolvConf } = await bridgeResolver(this.#settings.dns);
    // What starts the sandbox may live in a mount namespace that was made before this mount: it looks with our eyes.
    const namespace = `/proc/${process.pid}/root${namespaceFile(containerId)}`;
    return { namespace, addresses: addressesOf(result), resolvConf };
  }

  /** Has the plugins connect a namespace, which `make` makes; the record is to be completed with their result. */
  async #plug(containerId: string, spec: Pick<SandboxSpec, 'id' | 'exposePorts'>, make?: () => Promise<void>) {
    const { id, exposePorts: ports = [] } = spec;
    const { conflist, bridge: name, pluginFolders } = this.#settings;
    const bridge = conflist === undefined ? this.#bridge() : undefined;
    const config = conflist === undefined ? this.#bridge().conflist(ports.length > 0) : await readConflist(conflist);
    const network = new CniNetwork(config, pluginFolders);
    await this.#checkVersions(network);
    const ours = bridge === undefined ? {} : { bridge: name };
    const stateDir = this.#stateDir;
    const record: AttachmentRecord = { version: 1, containerId, id, stateDir, ...ours, config, ports };
    await this.#records.write(record);
    await claimPorts(this.#records, record);
    await this.#openBridge();
    await make?.();
    const result = await network.connect(connectionOf(record, namespaceFile(containerId)));
    if (bridge !== undefined) await settle(bridge, containerId, result);
    return { record, result };
  }

  /** Removes all of a container, whatever of it is there, the record last. */
  async #takeBack(containerId: string): Promise<void> {
    if (!this.#isKnown(containerId)) return;
    const record = await this.#records.read(containerId);
    const hasNamespace = await isNamespace(containerId);
    if (record?.config !== undefined) {
      const network = new CniNetwork(record.config, this.#settings.pluginFolders);
      const connection = connectionOf(record, hasNamespace ? namespaceFile(containerId) : '');
      const [error] = await network.disconnect(connection, record.result);
      // What plugins of the operator's have made nobody else can take back; what is made at our bridge we can.
      if (error !== undefined && record.bridge === undefined && record.result !== undefined) throw error;
      if (error !== undefined || record.result === undefined || !hasNamespace) await this.#removeTraces(containerId);
    } else if (record === undefined) {
      await this.#removeTraces(containerId);
    }
    await removeNamespace(containerId);
    await this.#records.release(containerId);
    await this.#records.remove(containerId);
    if (record?.bridge !== undefined) await this.#removeUnused(record.bridge);
  }

  async #removeTraces(containerId: string): Promise<void> {
    await removeTraces(containerId, this.#addresses);
  }

  /** With the last sandbox the bridge goes, and its rules. */
  async #removeUnused(bridge: string): Promise<void> {
    if ((await this.#records.at(bridge)).length > 0) return;
    await this.#bridge(bridge).remove();
    await removeFirewall(bridge);
  }

  async #cleanBridge(lost: readonly string[], dryRun: boolean): Promise<Leftover[]> {
    const { bridge: name, conflist } = this.#settings;
    if (conflist !== undefined) return [];
    if ((await this.#records.at(name)).some((containerId) => !lost.includes(containerId))) return [];
    const found: Leftover[] = [
      ...((await this.#bridge().exists()) ? [{ kind: 'network' as const, name }] : []),
      ...(await firewallChains(name)).map((chain) => ({ kind: 'firewall rule' as const, name: chain })),
    ];
    if (!dryRun) {
      await this.#removeUnused(name);
      await this.#openings.forget();
    }
    return found;
  }

  /** Makes the bridge and its rules, unless they are there. This machine's address; undefined where it is not ours. */
  async #openBridge(): Promise<string | undefined> {
    const { conflist, bridge: name, dns } = this.#settings;
    if (conflist !== undefined) return undefined;
    const bridge = this.#bridge();
    await bridge.ensure();
    const { nameservers } = await bridgeResolver(dns);
    await this.#openings.apply({ bridge: name, ports: this.#ports, nameservers }, bridge.gateway);
    return bridge.gateway;
  }

  #bridge(name = this.#settings.bridge): Bridge {
    return new Bridge({ name, subnet: this.#settings.subnet, addresses: this.#addresses });
  }

  async #checkVersions(network: CniNetwork): Promise<void> {
    const key = JSON.stringify([network.config.cniVersion, network.config.plugins.map(({ type }) => type)]);
    if (this.#checked.has(key)) return;
    await network.checkVersions();
    this.#checked.add(key);
  }

  /** Asked at every start, and mostly not so: a look by itself takes less than a turn in the thread pool. */
  #isKnown(containerId: string): boolean {
    return this.#records.has(containerId) || existsSync(namespaceFile(containerId));
  }

  /** One change at a time: each looks at what is there before it makes something. */
  async #alone<T>(task: () => Promise<T>): Promise<T> {
    const { runDir } = this.#settings;
    const turn = (Networks.#last.get(runDir) ?? Promise.resolve()).then(task);
    Networks.#last.set(
      runDir,
      turn.catch(() => undefined),
    );
    return turn;
  }
}

/** Whether a process lives in this process' network namespace; false when it is gone. */
async function sharesNetwork(pid: number): Promise<boolean> {
  try {
    const [other, own] = await Promise.all([readlink(`/proc/${pid}/ns/net`), readlink('/proc/self/ns/net')]);
    return other === own;
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH')) return false;
    throw error;
  }
}

/** What is left to do at our own bridge, once the plugins have done their part. */
async function settle(bridge: Bridge, containerId: string, result: NetworkResult): Promise<void> {
  const inside = insideOf(result);
  const outside = result.interfaces?.find(({ name, sandbox = '' }) => sandbox === '' && name !== bridge.name)?.name;
  if (inside === undefined || outside === undefined) throw unknownInterfaces();
  const container = { containerId, inside, outside };
  await Promise.all([bridge.routeThroughGateway(container), bridge.mark(container)]);
}

function unknownInterfaces(): SandboxError {
  return new SandboxError('SANDBOX_NETWORK_FAILED', 'Cannot tell which interfaces the CNI plugins have made');
}

function notPrepared(name: string): SandboxError {
  return new SandboxError('SANDBOX_NETWORK_FAILED', `Cannot connect the network namespace "${name}": it is not there`);
}

/** The networks that nothing has to be made for. */
async function attachmentWithout(network: Exclude<Network, 'bridge'>): Promise<Attachment> {
  const isHost = network === 'host';
  return {
    namespace: undefined,
    addresses: isHost ? ['127.0.0.1'] : [],
    resolvConf: isHost ? await hostResolvConf() : '',
  };
}

/** Says which sandbox it was that something general failed for. */
function connecting(error: unknown, id: string): unknown {
  if (!(error instanceof SandboxError) || error.code !== 'SANDBOX_NETWORK_FAILED') return error;
  return new SandboxError('SANDBOX_NETWORK_FAILED', `Cannot connect the sandbox "${id}": ${error.message}`, {
    cause: error,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  });
}
