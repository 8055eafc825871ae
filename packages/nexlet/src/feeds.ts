import { headers, type MsgHdrs, type NatsConnection } from '@nats-io/nats-core';
import { feedSubjects, type LogStream } from '@nex-nix/protocol';

/** Longer pieces of output are published as several messages, of the size in which Go nexlets publish theirs. */
const MAX_PIECE = 32 * 1024;

/** Where nexlets publish what their workloads print and what happens to them. Nobody has to listen; nothing is kept here. */
export interface Feeds {
  /** Publishes one line of output, without its end, on `$NEX.FEED.<namespace>.logs.<workloadId>.<stream>`. */
  log(namespace: string, workloadId: string, stream: LogStream, line: Uint8Array | string): void;
  /** Publishes an event as JSON on `$NEX.FEED.<from>.events.<name>`; `from` is a namespace, node id or nexlet id. */
  event(from: string, name: string, body: unknown): void;
}

/** Feeds over a connection that stays the caller's. What is published after it was closed is dropped. */
export function createFeeds(nc: NatsConnection): Feeds {
  const publish = (subject: string, payload: Uint8Array | string, options?: { headers: MsgHdrs }) => {
    if (!nc.isClosed()) nc.publish(subject, payload, options);
  };
  return {
    log(namespace, workloadId, stream, line) {
      const subject = feedSubjects.logs(namespace, workloadId, stream);
      const data = typeof line === 'string' ? new TextEncoder().encode(line) : line;
      const options = { headers: logHeaders(namespace) };
      publish(subject, data.subarray(0, MAX_PIECE), options);
      for (let start = MAX_PIECE; start < data.length; start += MAX_PIECE) {
        publish(subject, data.subarray(start, start + MAX_PIECE), options);
      }
    },
    event(from, name, body) {
      publish(feedSubjects.events(from, name), JSON.stringify(body));
    },
  };
}

/** The headers of Nex 0.4 log messages (`models/agent.go`). */
function logHeaders(namespace: string): MsgHdrs {
  const result = headers();
  result.set('synadia.com/group', '');
  result.set('synadia.com/namespace', namespace);
  return result;
}
