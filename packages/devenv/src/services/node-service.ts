import { devPaths } from '../dev-paths.ts';
import { startNexChild } from './nex-child.ts';
import type { OnLine, Run, Service } from '../supervisor/service.ts';

/** A node clears away what an earlier one has left before it is ready. */
const READY_TIMEOUT_MS = 120_000;
/** Time for its workloads to stop. */
const STOP_GRACE_MS = 30_000;

export interface NodeServiceOptions {
  dataDir: string;
  /** How nex is run. */
  command: readonly string[];
  /** More options of `nex node up`; they win. */
  arguments: readonly string[];
  /** What lets it make credentials for its workloads and take them back. */
  environment: Record<string, string>;
  onLine: OnLine;
}

/** `nex node up` as the user `Node`, which makes credentials for its workloads. */
export class NodeService implements Service {
  readonly name = 'node';
  readonly after = ['accounts'] as const;
  readonly #options: NodeServiceOptions;
  #id: string | undefined;

  constructor(options: NodeServiceOptions) {
    this.#options = options;
  }

  /** Public key of the node; undefined before the first start. */
  get id(): string | undefined {
    return this.#id;
  }

  async start(signal: AbortSignal): Promise<Run> {
    const { dataDir, command, environment, onLine } = this.#options;
    const { node, cacheKey } = devPaths(dataDir);
    const child = await startNexChild({
      command,
      args: [
        ['--context', 'ExpNode', 'node', 'up', '--node-name', 'dev', '--state-dir', node],
        ['--cache-key-file', cacheKey, ...this.#options.arguments],
      ].flat(),
      env: { XDG_CONFIG_HOME: dataDir, ...environment },
      what: 'the node',
      ready: 'nex node ready',
      readyTimeoutMs: READY_TIMEOUT_MS,
      graceMs: STOP_GRACE_MS,
      signal,
      onLine,
    });
    this.#id = String(child.record['id']);
    return child;
  }
}
