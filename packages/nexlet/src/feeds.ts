import { headers, type MsgHdrs, type NatsConnection } from '@nats-io/nats-core';
import {
  AgentIngressMessage,
  feedSubjects,
  formatLogId,
  LastLogs,
  LOG_ID_HEADER,
  type LogId,
  type LogStream,
} from '@nex-nix/protocol';
import { silentLogger } from './logger.ts';
import { type Outgoing, Outbox } from './outbox.ts';

/** Longer pieces of output are published as several messages, of the size in which Go nexlets publish theirs. */
const MAX_PIECE = 32 * 1024;

/** Where a line stands in the output of a workload. */
export interface LogPlace {
  /** The run of the program that printed it: `[A-Za-z0-9-]{1,64}`, never used for another run. */
  readonly run: string;
  /** Bytes of its stream up to its end. */
  readonly position: number;
}

export interface LogOptions {
  /** By it a JetStream stream keeps once, and this project's clients show once, what is published again. */
  readonly place?: LogPlace | undefined;
  /** So many of the pieces that a long line is published in are out already. */
  readonly piecesOut?: number | undefined;
  /**
   * Called when the server has the line and all that was published before it, a turn of the event loop before more is
   * sent: what is written down by then is never behind by more than one batch.
   */
  readonly onConfirmed?: (() => void) | undefined;
}

/**
 * Where nexlets publish what their workloads print and what happens to them; nobody has to listen. What is published
 * while there is no server is kept and published when one is back, up to 16 MiB: beyond that it is dropped and the result
 * is false. Whoever must lose nothing waits for `flushed` now and then, and publishes again what came out false.
 */
export interface Feeds {
  /**
   * Publishes one line of output, without its end, on `$NEX.FEED.<namespace>.logs.<workloadId>.<stream>`: one that is
   * longer than 32 KiB in pieces.
   */
  log(
    namespace: string,
    workloadId: string,
    stream: LogStream,
    line: Uint8Array | string,
    options?: LogOptions,
  ): boolean;
  /**
   * Which piece of a workload's output is the last one that the stream `NEX_FEED` has, to go on behind it. Undefined where
   * that is not known within two seconds, as where there is no such stream.
   *
   * @throws {ProtocolError} NEX_PERMISSION, NEX_CONNECTION_CLOSED
   */
  lastLog(namespace: string, workloadId: string, stream: LogStream): Promise<LogId | undefined>;
  /** Publishes a measurement, in any form, on `$NEX.FEED.<namespace>.metrics.<workloadId>`. */
  metric(namespace: string, workloadId: string, data: Uint8Array | string): boolean;
  /** Publishes an event as JSON on `$NEX.FEED.<from>.events.<name>`; `from` is a namespace, node id or nexlet id. */
  event(from: string, name: string, body: unknown): boolean;
  /** Tells ingress proxies that a workload can be reached at `upstream` (`ip:port`); undefined: not any more. */
  ingress(workloadId: string, upstream: string | undefined): boolean;
  /**
   * Resolves when the server has all that was published before the call, across reconnects. What was confirmed is never
   * lost and never sent again; of what was not, one batch at most comes twice: what was published during one round trip to
   * the server, up to 256 KiB.
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
  /** Asked for once a connection: many workloads are taken over at once. */
  let lastLogs: { connection: NatsConnection; opening: Promise<LastLogs | undefined> } | undefined;
  return {
    log(namespace, workloadId, stream, line, { place, piecesOut = 0, onConfirmed } = {}) {
      const subject = feedSubjects.logs(namespace, workloadId, stream);
      const data = bytes(line);
      const messages: Outgoing[] = [];
      const count = countPieces(data);
      for (let piece = piecesOut; piece < count; piece++) {
        const head = feedHeaders(namespace);
        if (place !== undefined) head.set(LOG_ID_HEADER, formatLogId({ ...place, stream, piece }));
        messages.push({
          subject,
          data: data.subarray(piece * MAX_PIECE, (piece + 1) * MAX_PIECE),
          headers: head,
          onConfirmed: piece === count - 1 ? onConfirmed : undefined,
        });
      }
      return outbox.publish(...messages);
    },
    async lastLog(namespace, workloadId, stream) {
      if (outbox.connection === undefined) return undefined;
      const { connection } = outbox;
      if (lastLogs?.connection !== connection) lastLogs = { connection, opening: LastLogs.open(connection) };
      return (await lastLogs.opening)?.of(namespace, workloadId, stream);
    },
    metric(namespace, workloadId, data) {
      const subject = feedSubjects.metrics(namespace, workloadId);
      return outbox.publish({ subject, data: bytes(data), headers: feedHeaders(namespace) });
    },
    event(from, name, body) {
      return outbox.publish({ subject: feedSubjects.events(from, name), data: bytes(JSON.stringify(body)) });
    },
    ingress(workloadId, upstream) {
      const command = upstream === undefined ? 'remove' : 'add';
      const message = AgentIngressMessage.encode({ command, upstream: upstream ?? '', workload_id: workloadId });
      return outbox.publish({ subject: feedSubjects.events(agentId(), 'INGRESS'), data: bytes(message) });
    },
    flushed: () => outbox.flushed(),
  };
}

/** In how many messages a line is published. */
export function countPieces({ length }: Uint8Array): number {
  return Math.max(1, Math.ceil(length / MAX_PIECE));
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
