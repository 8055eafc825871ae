import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConnection } from '@nats-io/nats-core';
import {
  controlSubjects,
  NodeHeartbeat,
  NodePingRequest,
  ProtocolError,
  requestOne,
  SYSTEM_NAMESPACE,
} from '@nex-nix/protocol';
import type { Logger } from './logger.ts';

/** Times of the watch over a node, in milliseconds. */
export interface NodeWatchTimes {
  /** Without a heartbeat for so long, a node is asked whether it is there; nodes beat every 10 s. @default 35000 */
  silence?: number;
  /** How long it may take to answer. @default 2000 */
  ping?: number;
}

export interface NodeWatchOptions extends NodeWatchTimes {
  nodeId: string;
  agentId: string;
  /** The node is there and does not know this nexlet: it was restarted. Must not reject. */
  forgotten: () => Promise<void>;
  logger: Logger;
  signal: AbortSignal;
}

/**
 * Listens to the heartbeats of a node. A node whose heartbeats were never heard is not missed: nexlets of Go nodes with
 * a signing key may not listen to them.
 */
export class NodeWatch {
  readonly #nc: NatsConnection;
  readonly #options: NodeWatchOptions;
  readonly #silence: number;
  #lastBeat: number | undefined;
  #registering = false;

  constructor(nc: NatsConnection, options: NodeWatchOptions) {
    this.#nc = nc;
    this.#options = options;
    this.#silence = options.silence ?? 35_000;
    const subscription = nc.subscribe(controlSubjects.heartbeat(options.nodeId), {
      callback: (error, msg) => {
        if (error === null) this.#heard(msg.string());
        else options.logger.debug({ err: error }, 'heartbeats of the node cannot be heard');
      },
    });
    options.signal.addEventListener('abort', () => subscription.unsubscribe(), { once: true });
  }

  /** The connection was lost for a while: heartbeats that were missed say nothing. */
  reconnected(): void {
    if (this.#lastBeat !== undefined) this.#lastBeat = Date.now();
  }

  /** Resolves when the node is gone: true; or when aborted: false. */
  async untilGone(): Promise<boolean> {
    const { signal, logger } = this.#options;
    while (!signal.aborted) {
      const wait = (this.#lastBeat ?? Date.now()) + this.#silence - Date.now();
      try {
        if (wait > 0) await delay(wait, undefined, { signal, ref: false });
        else if (await this.#answers()) this.#lastBeat = Date.now();
        else return true;
      } catch (error) {
        if (signal.aborted) return false;
        // Neither an answer nor none: the connection is in between.
        logger.debug({ err: error }, 'the node cannot be asked whether it is there');
        this.#lastBeat = Date.now();
      }
    }
    return false;
  }

  #heard(text: string): void {
    this.#lastBeat = Date.now();
    const { agentId, forgotten } = this.#options;
    const known = registeredIds(text);
    if (known === undefined || known.includes(agentId)) return;
    if (this.#registering) return;
    this.#registering = true;
    void forgotten().finally(() => (this.#registering = false));
  }

  async #answers(): Promise<boolean> {
    const { nodeId, ping: timeout = 2_000, signal } = this.#options;
    // A ping of the server first: without a server nobody is gone.
    await this.#nc.flush();
    if (this.#lastBeat !== undefined && Date.now() - this.#lastBeat < this.#silence) return true;
    const subject = controlSubjects.pingNode(SYSTEM_NAMESPACE, nodeId);
    try {
      const { reply } = await requestOne(this.#nc, subject, NodePingRequest.encode({ filter: {} }), {
        timeout,
        signal,
      });
      return reply !== undefined;
    } catch (error) {
      if (error instanceof ProtocolError && error.code === 'NEX_PERMISSION') return false;
      throw error;
    }
  }
}

/** The nexlet ids of `<id> [<type>], …`; undefined when a heartbeat does not say. */
function registeredIds(text: string): string[] | undefined {
  try {
    const { registrations } = NodeHeartbeat.decode(text, 'heartbeat');
    return registrations.split(',').map((entry) => entry.trim().split(' ')[0] ?? '');
  } catch (error) {
    if (error instanceof ProtocolError) return undefined;
    throw error;
  }
}
