// A node that speaks raw NATS, as Nex 0.4 nodes do, and does only what a test tells it.
import { headers, type Msg, type NatsConnection } from '@nats-io/nats-core';

export interface Registration {
  readonly subject: string;
  readonly body: Record<string, unknown>;
}

export interface Beat {
  readonly time: number;
  readonly state: string;
  readonly workloads: number;
  readonly body: Record<string, unknown>;
}

/** Connection data with all eleven keys. */
export function creds(servers: readonly string[], more: object = {}): Record<string, unknown> {
  return {
    conn_name: '',
    nats_servers: servers,
    nats_user_jwt: '',
    nats_user_name: '',
    nats_user_nkey: '',
    nats_user_password: '',
    nats_user_seed: '',
    tls_ca: '',
    tls_cert: '',
    tls_first: false,
    tls_key: '',
    ...more,
  };
}

/** A start request as clients send it. */
export const request = (name: string, more: object = {}) => ({
  description: '',
  name,
  namespace: 'default',
  run_request: '{"x":1}',
  tags: null,
  workload_lifecycle: 'service',
  workload_type: 'test',
  ...more,
});

export interface ScriptedNodeOptions {
  readonly id: string;
  /** Where its nexlets connect. */
  readonly servers: readonly string[];
}

export class ScriptedNode implements Disposable {
  readonly id: string;
  readonly registrations: Registration[] = [];
  readonly beats: Beat[] = [];
  /** What the next registrations are answered with: a body, or an error with its code and text; undefined is silence. */
  answer: (count: number) => object | string | { code: string; error: string } | undefined;
  readonly #nc: NatsConnection;
  readonly #options: ScriptedNodeOptions;
  readonly #subscriptions: Disposable[] = [];

  constructor(nc: NatsConnection, options: ScriptedNodeOptions) {
    this.id = options.id;
    this.#nc = nc;
    this.#options = options;
    this.answer = () => this.success();
    this.#serve(`$NEX.SVC.${this.id}.agent.REGISTER.*`, (msg) => {
      this.registrations.push({ subject: msg.subject, body: msg.json() });
      const answer = this.answer(this.registrations.length);
      if (answer !== undefined) respond(msg, answer);
    });
    this.#serve(`$NEX.SVC.${this.id}.agent.HEARTBEAT.*`, (msg) => {
      const body = msg.json<{ summary: { state: string; workload_count: number } }>();
      const { state, workload_count: workloads } = body.summary;
      this.beats.push({ time: Date.now(), state, workloads, body: { ...body } });
    });
  }

  /** The reply of a node that takes the nexlet. */
  success(more: object = {}): Record<string, unknown> {
    const connection = creds(this.#options.servers, { conn_name: 'second' });
    return { connection_data: connection, existing_state: {}, message: '', node_id: this.id, success: true, ...more };
  }

  /** Takes nexlets that no node has started. */
  takeRemote(nexus: string, reply: (count: number) => object | string | { code: string; error: string }): void {
    let count = 0;
    this.#serve(`$NEX.SVC.${nexus}.agent.RREGISTER`, (msg) => respond(msg, reply(++count)), nexus);
  }

  /** Answers pings, as nodes that are there do. */
  answerPings(): void {
    const body = {
      agent_count: 1,
      node_id: this.id,
      start_time: '2026-05-01T10:00:00.123456789Z',
      state: 'running',
      tags: {},
      version: '0.4.1',
      xkey: '',
    };
    this.#serve(`$NEX.SVC.system.control.PING.${this.id}`, (msg) => respond(msg, body));
  }

  /** The node's own heartbeat, which lists nexlets by id. */
  heartbeat(...agentIds: string[]): void {
    const registrations = agentIds.map((id) => `${id} [test]`).join(', ');
    this.#nc.publish(`$NEX.SVC.system.control.HEARTBEAT.${this.id}`, JSON.stringify({ registrations }));
  }

  /** A request to the nexlets of this node. */
  ask(verb: string, body: unknown, timeout = 2_000): Promise<Msg> {
    const payload = typeof body === 'string' ? body : JSON.stringify(body);
    return this.#nc.request(`$NEX.SVC.${this.id}.agent.${verb}`, payload, { timeout });
  }

  start(agentId: string, workloadId: string, body: object): Promise<Msg> {
    return this.ask(`${agentId}.STARTWORKLOAD.${workloadId}`, {
      request: body,
      workload_creds: creds(this.#options.servers, { conn_name: 'w' }),
    });
  }

  /** Ids of the workloads that the nexlets list. */
  async list(namespace: string, filter: string[] | null = null): Promise<string[]> {
    return (await this.ask('QUERYWORKLOADS', { namespace, filter })).json<{ id: string }[]>().map(({ id }) => id);
  }

  flush(): Promise<void> {
    return this.#nc.flush();
  }

  /** The node is gone: it answers nothing and hears nothing. */
  [Symbol.dispose](): void {
    for (const subscription of this.#subscriptions.splice(0)) subscription[Symbol.dispose]();
  }

  #serve(subject: string, handler: (msg: Msg) => void, queue?: string): void {
    const subscription = this.#nc.subscribe(subject, {
      ...(queue === undefined ? {} : { queue }),
      callback: (_error, msg) => handler(msg),
    });
    this.#subscriptions.push({ [Symbol.dispose]: () => subscription.unsubscribe() });
  }
}

function respond(msg: Msg, answer: object | string): void {
  if (typeof answer === 'string') return void msg.respond(answer);
  if (!('code' in answer) || !('error' in answer)) return void msg.respond(JSON.stringify(answer));
  const head = headers();
  head.set('Nats-Service-Error', String(answer.error));
  head.set('Nats-Service-Error-Code', String(answer.code));
  msg.respond(JSON.stringify({ error_id: 'e1', error: 'internal server error' }), { headers: head });
}
