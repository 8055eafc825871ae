import { readFile } from 'node:fs/promises';
import { hasErrno } from '../file-errors.ts';
import { SandboxError } from '../sandbox-error.ts';
import { callPlugin } from './cni-plugin.ts';

/** One plugin of a network: what it does by name, and whatever it wants to know. */
export interface PluginConfig {
  readonly type: string;
  readonly capabilities?: Readonly<Record<string, boolean>>;
  readonly [key: string]: unknown;
}

/** A network as CNI has it (specification 1.0.0, section 1), a conflist. */
export interface NetworkConfig {
  readonly cniVersion: string;
  readonly name: string;
  readonly plugins: readonly PluginConfig[];
}

/** What the plugins made, kept as they say it: they get it back with DEL. Section 5 of the specification. */
export interface NetworkResult {
  readonly interfaces?: readonly { readonly name: string; readonly sandbox?: string }[];
  readonly ips?: readonly { readonly address: string; readonly gateway?: string }[];
  readonly [key: string]: unknown;
}

/** What is to be connected. */
export interface Connection {
  readonly containerId: string;
  /** File of the network namespace. */
  readonly namespace: string;
  /** Arguments by capability; each plugin gets those that it declares. */
  readonly capabilities: Readonly<Record<string, unknown>>;
}

/** Name of the interface that a sandbox gets. */
const INTERFACE = 'eth0';

const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;

/** A network whose plugins are run by us, in the place of a container engine. */
export class CniNetwork {
  readonly config: NetworkConfig;
  readonly #folders: readonly string[];

  constructor(config: NetworkConfig, folders: readonly string[]) {
    this.config = config;
    this.#folders = folders;
  }

  /** Throws SANDBOX_NETWORK_FAILED unless every plugin is there and talks the configuration's version. */
  async checkVersions(): Promise<void> {
    const { cniVersion, plugins } = this.config;
    for (const { type } of plugins) {
      const answer = (await callPlugin(type, { command: 'VERSION', config: { cniVersion } }, this.#folders)) as
        | { supportedVersions?: unknown }
        | undefined;
      const versions = answer?.supportedVersions;
      if (Array.isArray(versions) && versions.includes(cniVersion)) continue;
      const known = Array.isArray(versions) ? versions.join(', ') : 'none that it would name';
      throw new SandboxError(
        'SANDBOX_NETWORK_FAILED',
        `Cannot use the CNI plugin "${type}": it knows the versions ${known}, expected ${cniVersion}`,
        { hint: 'Install plugins of another version, or change cniVersion in the conflist' },
      );
    }
  }

  /** Runs all plugins in their order. When it fails, `disconnect()` has to follow. */
  async connect(connection: Connection): Promise<NetworkResult> {
    let prevResult: NetworkResult | undefined;
    for (const plugin of this.config.plugins) {
      const config = this.#configOf(plugin, connection, prevResult);
      const call = { command: 'ADD', ...callOf(connection), config } as const;
      prevResult = ((await callPlugin(plugin.type, call, this.#folders)) ?? prevResult) as NetworkResult | undefined;
    }
    return prevResult ?? {};
  }

  /**
   * Has the plugins take back what they made, in reverse order, also what they made of a `connect()` that failed. All of
   * them are run; gives what went wrong.
   */
  async disconnect(connection: Connection, result: NetworkResult | undefined): Promise<SandboxError[]> {
    const errors: SandboxError[] = [];
    for (const plugin of this.config.plugins.toReversed()) {
      try {
        const config = this.#configOf(plugin, connection, result);
        await callPlugin(plugin.type, { command: 'DEL', ...callOf(connection), config }, this.#folders);
      } catch (error) {
        if (!(error instanceof SandboxError)) throw error;
        errors.push(error);
      }
    }
    return errors;
  }

  /** Section 3 of the specification, "deriving execution configuration from plugin configuration". */
  #configOf(plugin: PluginConfig, { capabilities }: Connection, prevResult: NetworkResult | undefined) {
    const { capabilities: declared = {}, ...rest } = plugin;
    const { cniVersion, name } = this.config;
    const runtimeConfig = Object.fromEntries(Object.entries(capabilities).filter(([key]) => declared[key] === true));
    return {
      ...rest,
      cniVersion,
      name,
      ...(Object.keys(runtimeConfig).length === 0 ? {} : { runtimeConfig }),
      ...(prevResult === undefined ? {} : { prevResult }),
    };
  }
}

function callOf({ containerId, namespace }: Connection) {
  return { containerId, namespace, interfaceName: INTERFACE };
}

/** Reads an operator's conflist. `file`: for the message. Throws SANDBOX_NETWORK_FAILED. */
export function parseConflist(text: string, file: string): NetworkConfig {
  const fail = (why: string) =>
    new SandboxError('SANDBOX_NETWORK_FAILED', `Cannot use the network configuration "${file}": ${why}`);
  let value: Partial<Record<keyof NetworkConfig, unknown>> | null;
  try {
    value = JSON.parse(text) as typeof value;
  } catch (error) {
    if (error instanceof SyntaxError) throw fail(error.message);
    throw error;
  }
  const { cniVersion, name, plugins } = value ?? {};
  if (typeof cniVersion !== 'string') throw fail('it has no cniVersion');
  if (typeof name !== 'string' || !NAME.test(name)) throw fail('it has no name of letters, digits, "_", "." and "-"');
  if (!Array.isArray(plugins) || plugins.length === 0)
    throw fail('it has no list of plugins; one plugin is no conflist');
  const bad = plugins.findIndex((plugin: Partial<PluginConfig> | null) => !isPluginName(plugin?.type));
  if (bad !== -1) throw fail(`plugin ${bad + 1} has no plain type`);
  return { cniVersion, name, plugins: plugins as PluginConfig[] };
}

/** It becomes a file name. */
function isPluginName(type: unknown): boolean {
  return typeof type === 'string' && NAME.test(type);
}

/** Reads an operator's conflist from a file. Throws SANDBOX_NETWORK_FAILED. */
export async function readConflist(file: string): Promise<NetworkConfig> {
  try {
    return parseConflist(await readFile(file, 'utf8'), file);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT', 'EACCES', 'EISDIR')) throw error;
    const message = `Cannot use the network configuration "${file}": ${error.message}`;
    throw new SandboxError('SANDBOX_NETWORK_FAILED', message, { cause: error });
  }
}
