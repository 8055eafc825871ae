import { join } from 'node:path';
import type { NexletDefinition, RunningNexlet } from '@nex-nix/nexlet';
import type { NodeContext } from '../node-context.ts';
import { startEmbedded } from './embedded-nexlet.ts';
import { LocalNexlet } from './local-nexlet.ts';
import type { LocalNexletSpec } from './local-program.ts';
import { ProcessMarks } from './process-marks.ts';

export interface OwnNexletsOptions {
  embedded: readonly NexletDefinition[];
  local: readonly LocalNexletSpec[];
  restartLimit: number;
  /** Folder for what must be known of the processes after this one was killed. */
  stateDir: string;
}

/** The nexlets that a node runs itself, inside its process and as processes of their own. They end with it. */
export class OwnNexlets implements AsyncDisposable {
  readonly #node: NodeContext;
  readonly #options: OwnNexletsOptions;
  readonly #embedded: RunningNexlet[] = [];
  readonly #local: LocalNexlet[] = [];

  constructor(node: NodeContext, options: OwnNexletsOptions) {
    this.#node = node;
    this.#options = options;
  }

  /**
   * Resolves when the embedded ones are healthy, and the local ones are or have had their time.
   *
   * @throws {NodeError} NODE_CREDENTIALS_REFUSED, NODE_NEXLET_FAILED, NODE_LOCAL_NEXLET_INVALID; what a definition's `ready` throws
   */
  async start(signal: AbortSignal): Promise<void> {
    const { embedded, local } = this.#options;
    const marks = new ProcessMarks(join(this.#options.stateDir, 'local-nexlets'));
    const ended = await marks.endLeftovers();
    if (ended.length > 0)
      this.#node.logger.warn({ pids: ended }, 'ended local nexlets that an earlier process had left');
    const starting = [
      ...embedded.map(async (definition) => {
        this.#embedded.push(await startEmbedded(this.#node, definition, signal));
      }),
      ...local.map((spec) => this.#startLocal(spec, marks, signal)),
    ];
    const failed = (await Promise.allSettled(starting)).find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    if (starting.length === 0)
      this.#node.logger.warn({}, 'this node has no nexlets of its own: it runs no workloads by itself');
  }

  has(agentId: string): boolean {
    return [...this.#embedded, ...this.#local].some((nexlet) => nexlet.agentId === agentId);
  }

  /** Ends the processes at once. */
  abandon(): void {
    for (const nexlet of this.#local) nexlet.kill();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const nexlets = [...this.#embedded, ...this.#local];
    const results = await Promise.allSettled(
      nexlets.map(async (nexlet) => {
        await nexlet[Symbol.asyncDispose]();
        this.#node.nexletEnded(nexlet.agentId, 'the node ends');
      }),
    );
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  async #startLocal(spec: LocalNexletSpec, marks: ProcessMarks, signal: AbortSignal): Promise<void> {
    const nexlet = await LocalNexlet.start(this.#node, { spec, restartLimit: this.#options.restartLimit, marks });
    this.#local.push(nexlet);
    await nexlet.untilHealthy(signal);
  }
}
