import { readLocalEnvironment } from './local-environment.ts';
import { Nexlet, type NexletOptions } from './nexlet.ts';
import type { NexletDefinition } from './nexlet-definition.ts';
import type { NodeWatchTimes } from './node-watch.ts';
import { runAttached, type RunningNexlet } from './run-nexlet.ts';

export interface RunLocalNexletOptions extends NexletOptions {
  /** The variables that the node set. @default process.env */
  env?: Readonly<Record<string, string | undefined>>;
  watch?: NodeWatchTimes;
}

/**
 * Runs a nexlet in a process that a node has started, this project's or Go's. When the node was restarted under it, it
 * registers again; when the node is gone, it ends by itself (`closed`).
 *
 * @throws {NexletError} and what `definition.ready` throws; nothing is left running then
 */
export async function runLocalNexlet(
  definition: NexletDefinition,
  { env = process.env, watch = {}, ...options }: RunLocalNexletOptions = {},
): Promise<RunningNexlet> {
  const { signal } = options;
  const { nexus, ...assignment } = readLocalEnvironment(env);
  return runAttached(new Nexlet(definition, options), { ...assignment, nexus, watch, signal });
}
