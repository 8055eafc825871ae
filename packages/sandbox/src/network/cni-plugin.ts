import { join } from 'node:path';
import { findExecutable } from '../find-executable.ts';
import { SandboxError } from '../sandbox-error.ts';
import { runCommand, type Said } from './network-command.ts';

/** What a plugin is asked to do; CNI specification 1.0.0, section 2. */
export interface PluginCall {
  command: 'ADD' | 'DEL' | 'VERSION';
  /** Empty for VERSION. */
  containerId?: string;
  /** File of the network namespace. */
  namespace?: string;
  /** Name of the interface in there. */
  interfaceName?: string;
  /** The network configuration, for standard input. */
  config: Readonly<Record<string, unknown>>;
}

/** Path of a plugin; undefined when it is in none of the folders. */
export async function findPlugin(type: string, folders: readonly string[]): Promise<string | undefined> {
  for (const folder of folders) {
    const path = await findExecutable(join(folder, type));
    if (path !== undefined) return path;
  }
  return undefined;
}

/**
 * Runs a plugin; gives the JSON value that it printed, undefined when it printed nothing.
 *
 * @throws SandboxError SANDBOX_NETWORK_FAILED with what the plugin has to say
 */
export async function callPlugin(type: string, call: PluginCall, folders: readonly string[]): Promise<unknown> {
  const path = await findPlugin(type, folders);
  if (path === undefined) throw missing(type, folders);
  const { command, containerId = '', namespace = '', interfaceName = '', config } = call;
  const said = await runCommand(path, [], {
    input: JSON.stringify(config),
    environment: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: containerId,
      CNI_NETNS: namespace,
      CNI_IFNAME: interfaceName,
      CNI_PATH: folders.join(':'),
    },
  });
  if (said.code !== 0) throw new SandboxError('SANDBOX_NETWORK_FAILED', complaint(type, command, said));
  if (said.stdout.trim() === '') return undefined;
  const value = parseJson(said.stdout);
  if (value === undefined) {
    throw new SandboxError(
      'SANDBOX_NETWORK_FAILED',
      `Cannot use the CNI plugin "${type}": it answers ${command} with no JSON`,
    );
  }
  return value;
}

/** Plugins report errors as JSON on standard output (`{code, msg, details}`); those that crash say something on stderr. */
function complaint(type: string, command: string, { code, stdout, stderr }: Said): string {
  const { msg, details } = (parseJson(stdout) ?? {}) as { msg?: unknown; details?: unknown };
  const said = [msg, details].filter((part) => typeof part === 'string' && part !== '').join(', ');
  const why = said || stderr.trim() || stdout.trim() || `it ends with exit code ${code}`;
  return `Cannot ${command} with the CNI plugin "${type}": ${why}`;
}

function parseJson(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function missing(type: string, folders: readonly string[]): SandboxError {
  const message = `Cannot find the CNI plugin "${type}" in ${folders.join(', ') || 'any folder'}`;
  return new SandboxError('SANDBOX_NETWORK_FAILED', message, {
    hint: 'apt-get install containernetworking-plugins iptables, or name its folder in CNI_PATH',
  });
}
