import { headers, type MsgHdrs, type NatsConnection } from '@nats-io/nats-core';
import { AgentIngressMessage, feedSubjects, formatLogId, LOG_ID_HEADER, type LogStream } from '@nex-nix/protocol';
import { silentLogger } from './logger.ts';
import { Outbox } from './outbox.ts';

/** Longer pieces of output are published as several messages, of the size in which Go nexlets publish theirs. */
const MAX_PIECE = 32 * 1024;

/** Where a line stands in the output of a workload. */
export interface LogPlace {
  /** The run of the program that printed it: `[A-Za-z0-9-]{1,64}`, never used for another run. */
  readonly run: string;
  /** Bytes of its stream up to its end. */
  readonly position: number;
}

/**
 * Where nexlets publish what their workloads print and what happens to them; nobody has to listen. What is published
 * while there is no server is kept and published when one is back, up to 16 MiB: beyond that it is dropped and the result
 * is false. Whoever must lose nothing waits for `flushed` now and then, and publishes again what came out false.
 */
export interface Feeds {
  /**
   * Publishes one line of output, without its end, on `$NEX.FEED.<namespace>.logs.<workloadId>.<stream>`. With `place`, a
   * line that is published again is kept once by a JetStream stream, and shown once by this project's clients.
   */
  log(namespace: string, workloadId: string, stream: LogStream, line: Uint8Array | string, place?: LogPlace): boolean;
  /** Publishes a measurement, in any form, on `$NEX.FEED.<namespace>.metrics.<workloadId>`. */
  metric(namespace: string, workloadId: string, data: Uint8Array | string): boolean;
  /** Publishes an event as JSON on `$NEX.FEED.<from>.events.<name>`; `from` is a namespace, node id or nexlet id. */
  event(from: string, name: string, body: unknown): boolean;
  /** Tells ingress proxies that a workload can be reached at `upstream` (`ip:port`); undefined: not any more. */
  ingress(workloadId: string, upstream: string | undefined): boolean;
  /**
   * Resolves when the server has all that was published before the call, across reconnects. What was confirmed is never
   * lost, what was not may come twice.
   *
   * @throws {NexletError} NEXLET_FEED_CLOSED when the nexlet ends before
   */
  flushed(): Promise<void>;
}

/** Feeds over a connection that stays the caller's. They end when it is closed. */
export function createFeeds(nc: NatsConnection, agentId = ''): Feeds {
  const outbox = new Outbox({ logger: silentLogger });
  outbox.attach(nc);
  void nc.closed().then(() => outbox.end());
  return feedsThrough(outbox, () => agentId);
}

/** Feeds through an outbox, which decides over which connection. `agentId` is asked at each use. */
export function feedsThrough(outbox: Outbox, agentId: () => string): Feeds {
  return {
    log(namespace, workloadId, stream, line, place) {
      const subject = feedSubjects.logs(namespace, workloadId, stream);
      const data = bytes(line);
      let taken = true;
      for (let piece = 0; taken && (piece === 0 || piece * MAX_PIECE < data.length); piece++) {
        const head = feedHeaders(namespace);
        if (place !== undefined) head.set(LOG_ID_HEADER, formatLogId({ ...place, stream, piece }));
        taken = outbox.publish(subject, data.subarray(piece * MAX_PIECE, (piece + 1) * MAX_PIECE), head);
      }
      return taken;
    },
    metric(namespace, workloadId, data) {
      return outbox.publish(feedSubjects.metrics(namespace, workloadId), bytes(data), feedHeaders(namespace));
    },
    event(from, name, body) {
      return outbox.publish(feedSubjects.events(from, name), bytes(JSON.stringify(body)));
    },
    ingress(workloadId, upstream) {
      const command = upstream === undefined ? 'remove' : 'add';
      const message = AgentIngressMessage.encode({ command, upstream: upstream ?? '', workload_id: workloadId });
      return outbox.publish(feedSubjects.events(agentId(), 'INGRESS'), bytes(message));
    },
    flushed: () => outbox.flushed(),
  };
}

/** A copy: what was published is kept until the server has it, and the caller may use its buffer again. */
function bytes(data: Uint8Array | string): Uint8Array {
  return typeof data === 'string' ? new TextEncoder().encode(data) : new Uint8Array(data);
}

/** The headers of Nex 0.4 log and metric messages (`models/agent.go`). */
function feedHeaders(namespace: string): MsgHdrs {
  const result = headers();
  result.set('synadia.com/group', '');
  result.set('synadia.com/namespace', namespace);
  return result;
}
