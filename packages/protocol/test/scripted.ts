// What scripted peers are made of: raw NATS, and payloads as Go nodes write them.
import { headers, type Msg, type NatsConnection, type Payload } from '@nats-io/nats-core';

export type Answer = (msg: Msg) => void;

/** Subscriptions that stand for nodes; all are gone after `clear()`. */
export class Script {
  readonly #nc: NatsConnection;
  readonly #undo: (() => void)[] = [];

  constructor(nc: NatsConnection) {
    this.#nc = nc;
  }

  /** Serves one subject as a node would. */
  async serve(subject: string, answer: Answer): Promise<void> {
    const subscription = this.#nc.subscribe(subject, { callback: (_error, msg) => answer(msg) });
    this.#undo.push(() => subscription.unsubscribe());
    await this.#nc.flush();
  }

  reply(payload: Payload, delay = 0): Answer {
    return (msg) => {
      const timer = setTimeout(() => msg.respond(payload), delay);
      this.#undo.push(() => clearTimeout(timer));
    };
  }

  async clear(): Promise<void> {
    for (const undo of this.#undo.splice(0)) undo();
    await this.#nc.flush();
  }
}

export function errorReply(code: string, text: string, body = ''): Answer {
  const head = headers();
  head.set('Nats-Service-Error', text);
  head.set('Nats-Service-Error-Code', code);
  return (msg) => void msg.respond(body, { headers: head });
}

/** What a node of this project answers when it does not bid and is asked why. */
export function noBid(id: string, name: string, reason: string): Answer {
  const head = headers();
  head.set('Nex-No-Bid', 'true');
  return (msg) => {
    if (msg.json<{ explain?: boolean }>().explain !== true) return;
    msg.respond(JSON.stringify({ node_id: id, node_name: name, reason }), { headers: head });
  };
}

export const ping = (id: string, more: object = {}) =>
  JSON.stringify({
    agent_count: 1,
    node_id: id,
    start_time: '2026-05-01T10:00:00.123456789+02:00',
    state: 'running',
    tags: null,
    version: '0.4.1',
    xkey: 'XA',
    ...more,
  });

export const bid = (id: string, more: object = {}) =>
  JSON.stringify({
    bidder_id: id,
    start_request_schema: '{"type":"object"}',
    supported_lifecycles: ['service'],
    xkey: 'XB',
    ...more,
  });

export const summary = (id: string, more: object = {}) => ({
  id,
  name: 'web',
  namespace: 'default',
  runtime: '--',
  start_time: '2026-05-01T10:01:00+02:00',
  tags: null,
  workload_lifecycle: 'service',
  workload_state: 'running',
  workload_type: 'native',
  ...more,
});

/** What a Go node says of its nexlets. */
export const info = (id: string, ...nexlets: { type: string; health: string }[]) =>
  JSON.stringify({
    node_id: id,
    tags: null,
    uptime: '5.2s',
    version: '0.4.1',
    xkey: 'XA',
    ...(nexlets.length === 0 ? {} : { node_agent_summaries: nexlets.map(nexletSummary) }),
  });

const nexletSummary = ({ type, health }: { type: string; health: string }) => ({
  agent_health: health,
  agent_health_stoplight: '🟢',
  agent_id: 'k1',
  agent_last_heartbeat_time: '0001-01-01T00:00:00Z',
  agent_summary: {
    name: '',
    start_time: '0001-01-01T00:00:00Z',
    state: '',
    supported_lifecycles: '',
    type,
    version: '',
    workload_count: 0,
  },
});

export const notFound = (id: string) =>
  JSON.stringify({ id, message: 'workload not found', stopped: false, workload_type: '' });
export const stopped = (id: string) => JSON.stringify({ id, message: '', stopped: true, workload_type: 'native' });
export const INTERNAL = '{"error_id":"e","error":"internal server error"}';

export const PING = '$NEX.SVC.system.control.PING';
export const AUCTION = '$NEX.SVC.*.control.AUCTION';
export const DEPLOY = '$NEX.SVC.*.control.ADEPLOY.*';
