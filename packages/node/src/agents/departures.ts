import { setTimeout as delay } from 'node:timers/promises';
import type { NodeContext } from '../node-context.ts';
import type { Agent } from './agent-registry.ts';

/** Time between two looks whether a nexlet that said goodbye has gone, in milliseconds. */
const INTERVAL = 500;
/** It may have to end its workloads first. */
const PATIENCE = 120_000;

/**
 * Sees nexlets off that the node does not run itself: one that says that it ends may still be asked, for what it runs
 * until then; when it listens no more it is forgotten.
 */
export class Departures implements AsyncDisposable {
  readonly #node: NodeContext;
  readonly #abort = new AbortController();
  readonly #watching = new Set<Promise<void>>();

  constructor(node: NodeContext) {
    this.#node = node;
    node.registry.events.on('leaving', (agent) => {
      if (node.runsNexlet(agent.id)) return;
      const watch = this.#seeOff(agent);
      this.#watching.add(watch);
      void watch.finally(() => this.#watching.delete(watch));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await Promise.all(this.#watching);
  }

  async #seeOff(agent: Agent): Promise<void> {
    const { signal } = this.#abort;
    const end = Date.now() + PATIENCE;
    try {
      while ((await this.#node.agents.isThere(agent, signal)) !== false) {
        if (Date.now() > end) return;
        await delay(INTERVAL, undefined, { signal, ref: false });
      }
      // It may have registered again meanwhile.
      if (this.#node.registry.isLeaving(agent)) this.#node.nexletEnded(agent.id, 'it has ended');
    } catch (error) {
      if (signal.aborted || this.#node.nc.isClosed()) return;
      this.#node.logger.warn({ err: error, agentId: agent.id }, 'a nexlet that ends cannot be asked');
    }
  }
}
