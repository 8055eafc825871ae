// A node as Go Nex 0.4 has it, written from the description of its wire: raw NATS, required keys checked as Go's
// decoders check them, silence where Go is silent, and its quirks.
import { headers, type Msg, type MsgHdrs, type NatsConnection, nuid } from '@nats-io/nats-core';

export interface GoNodeOptions {
  id: string;
  tags?: Record<string, string>;
  /** Without nexlets a Go node answers a list with an error. */
  agents?: { name: string; type: string; healthy?: boolean }[];
  /** The nexlet registered without lifecycles. */
  lifecycles?: string[] | null;
  /** Nodes of 0.4.1 list no namespace. */
  namesNamespaces?: boolean;
  /** Before it answers what it asks its nexlets, in milliseconds: 2 s when one of them is dead. */
  delay?: number;
}

export interface GoWorkload {
  readonly id: string;
  readonly request: Record<string, unknown>;
}

type Body = Record<string, unknown>;

/** Go's health of a nexlet and the light that goes with it. */
const light = (healthy: boolean) => (healthy ? ['healthy', '🟢'] : ['degraded', '🟡']);

export class GoNode implements AsyncDisposable {
  readonly workloads = new Map<string, GoWorkload>();
  /** Every request that lacks a required key, which a Go node would refuse. */
  readonly malformed: string[] = [];
  state = 'running';
  readonly #nc: NatsConnection;
  readonly #bids = new Set<string>();
  readonly #options: Required<GoNodeOptions>;

  private constructor(nc: NatsConnection, options: GoNodeOptions) {
    this.#nc = nc;
    this.#options = {
      tags: {},
      agents: [{ name: 'go_exec', type: 'native' }],
      lifecycles: ['job', 'service'],
      namesNamespaces: true,
      delay: 0,
      ...options,
    };
  }

  static async start(nc: NatsConnection, options: GoNodeOptions): Promise<GoNode> {
    const node = new GoNode(nc, options);
    const { id } = options;
    node.#serve('$NEX.SVC.system.control.PTAGS', () => node.#tags());
    node.#serve('$NEX.SVC.system.control.PING', (msg) => node.#ping(msg));
    node.#serve(`$NEX.SVC.system.control.PING.${id}`, (msg) => node.#ping(msg));
    node.#serve(`$NEX.SVC.system.control.INFO.${id}`, () => node.#info());
    node.#serve(`$NEX.SVC.system.control.LAMEDUCK.${id}`, (msg) => node.#lameduck(msg));
    node.#serve(`$NEX.SVC.system.control.AGENTID.${id}`, (msg) => node.#agentId(msg));
    node.#serve('$NEX.SVC.*.control.AUCTION', (msg) => node.#auction(msg));
    node.#serve('$NEX.SVC.*.control.ADEPLOY.*', (msg) => node.#deploy(msg));
    node.#serve('$NEX.SVC.*.control.UNDEPLOY.*', (msg) => node.#undeploy(msg));
    node.#serve('$NEX.SVC.*.control.CLONE.*', (msg) => node.#clone(msg));
    node.#serve('$NEX.SVC.*.control.WPING', (msg) => node.#list(msg));
    await nc.flush();
    return node;
  }

  /** Ends the connection, which is the node's alone. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#nc.close();
  }

  /** Answers with what `handler` returns: JSON, a text, an error, or nothing at all. */
  #serve(subject: string, handler: (msg: Msg) => unknown): void {
    const callback = (_error: unknown, msg: Msg) => {
      const answer = handler(msg);
      if (answer === undefined) return;
      const slow = /WPING|UNDEPLOY|CLONE/.test(subject) ? this.#options.delay : 0;
      const respond = () => {
        if (this.#nc.isClosed()) return;
        if (answer instanceof GoError) msg.respond(answer.body, { headers: answer.headers });
        else msg.respond(typeof answer === 'string' ? answer : JSON.stringify(answer));
      };
      if (slow === 0) respond();
      else setTimeout(respond, slow).unref();
    };
    this.#nc.subscribe(subject, { queue: this.#options.id, callback });
  }

  /** The body when it has all `required` keys; whatever their values, as Go's decoders have it. */
  #read(msg: Msg, required: readonly string[]): Body | undefined {
    try {
      const body = JSON.parse(msg.string()) as Body | null;
      if (body === null || required.every((key) => Object.hasOwn(body, key))) return body ?? {};
    } catch {
      // Not JSON: as bad as a key that is missing.
    }
    this.malformed.push(`${msg.subject} ${msg.string()}`);
    return undefined;
  }

  #tags(): Body {
    const lameduck = this.state === 'lameduck' ? 'true' : 'false';
    return { 'nex.node': `node-${this.#options.id}`, 'nex.lameduck': lameduck, ...this.#options.tags };
  }

  #hasTags(wanted: unknown): boolean {
    return Object.entries((wanted ?? {}) as Body).every(([key, value]) => this.#tags()[key] === value);
  }

  #ping(msg: Msg): unknown {
    const request = this.#read(msg, ['filter']);
    if (request === undefined) return new GoError(400, 'failed to unmarshal ping request');
    if (!this.#hasTags(request['filter'])) return undefined;
    return {
      agent_count: this.#options.agents.length,
      node_id: this.#options.id,
      start_time: '2026-05-01T10:00:00.123456789+02:00',
      state: this.state,
      tags: this.#tags(),
      version: '0.4.1',
      xkey: 'XA',
    };
  }

  #info(): unknown {
    const summaries = this.#options.agents.map(({ name, type, healthy = true }) => ({
      agent_health: light(healthy)[0],
      agent_health_stoplight: light(healthy)[1],
      agent_id: `id-of-${name}`,
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
    }));
    return {
      ...(summaries.length === 0 ? {} : { node_agent_summaries: summaries }),
      node_id: this.#options.id,
      tags: this.#tags(),
      uptime: '1h2m3.000000004s',
      version: '0.4.1',
      xkey: 'XA',
    };
  }

  #lameduck(msg: Msg): unknown {
    const request = this.#read(msg, ['delay']);
    if (request === undefined) return new GoError(400, 'failed to unmarshal lameduck request');
    if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(String(request['delay'])))
      return new GoError(400, 'failed to parse lameduck delay');
    if (!this.#hasTags(request['tag'])) return undefined;
    this.state = 'lameduck';
    return { message: 'node entering lameduck mode, will shutdown at 2026-05-01 10:02:00', success: true };
  }

  #agentId(msg: Msg): unknown {
    if (msg.string() === '') return new GoError(400, 'agent name is required');
    const agent = this.#options.agents.find(({ name }) => name === msg.string());
    return agent === undefined ? undefined : `id-of-${agent.name}`;
  }

  #auction(msg: Msg): unknown {
    const request = this.#read(msg, ['agent_type', 'auction_id', 'tags']);
    if (request === undefined) return new GoError(400, 'failed to unmarshal auction request');
    const able = this.#options.agents.some(({ type, healthy = true }) => type === request['agent_type'] && healthy);
    if (!able || !this.#hasTags(request['tags'])) return undefined;
    const bid = nuid.next();
    this.#bids.add(bid);
    return {
      bidder_id: bid,
      start_request_schema: '{"type":"object","required":["uri"],"properties":{"uri":{"type":"string"}}}',
      supported_lifecycles: this.#options.lifecycles,
      xkey: 'XB',
    };
  }

  #deploy(msg: Msg): unknown {
    const [, , namespace, , , bid = ''] = msg.subject.split('.');
    if (!this.#bids.has(bid)) return undefined;
    const required = ['description', 'name', 'namespace', 'run_request', 'tags', 'workload_lifecycle', 'workload_type'];
    const request = this.#read(msg, required);
    if (request === undefined) return new GoError(400, 'failed to unmarshal auction deploy workload request');
    if (namespace !== 'system' && namespace !== request['namespace'])
      return new GoError(
        403,
        `namespace mismatch: ${namespace} != ${String(request['namespace'])}`,
        'namespace mismatch',
      );
    const { uri } = JSON.parse(request['run_request'] as string) as { uri?: unknown };
    if (typeof uri !== 'string') return new GoError(400, 'failed to validate run request');
    const id = nuid.next();
    // What the nexlet replies is handed on as it is, code 100 and a body of the wrong kind included.
    if (uri.includes('broken')) return new GoError(100, 'exec format error', JSON.stringify({ id: '', name: '' }));
    this.workloads.set(id, { id, request });
    return { id, name: request['name'] };
  }

  #undeploy(msg: Msg): unknown {
    const [, , namespace, , , id = ''] = msg.subject.split('.');
    if (this.#read(msg, ['namespace']) === undefined)
      return new GoError(400, 'failed to unmarshal stop workload request');
    const found = this.workloads.get(id)?.request['namespace'] === namespace && this.workloads.delete(id);
    return found
      ? { id, message: '', stopped: true, workload_type: 'native' }
      : { id, message: 'workload not found', stopped: false, workload_type: '' };
  }

  #clone(msg: Msg): unknown {
    const [, , namespace, , , id = ''] = msg.subject.split('.');
    if (this.#read(msg, ['namespace', 'new_target_xkey']) === undefined)
      return new GoError(400, 'failed to unmarshal clone workload request');
    const request = this.workloads.get(id)?.request;
    return namespace === 'system' || request?.['namespace'] === namespace ? request : undefined;
  }

  #list(msg: Msg): unknown {
    const [, , namespace] = msg.subject.split('.');
    const body = this.#read(msg, ['filter', 'namespace']);
    if (body === undefined) return new GoError(400, 'failed to unmarshal ping request');
    if (namespace !== 'system' && namespace !== body['namespace'])
      return new GoError(403, `namespace mismatch: ${namespace} != ${String(body['namespace'])}`);
    if (this.#options.agents.length === 0) return new GoError(500, 'failed to publish query workloads request');
    const filter = (body['filter'] ?? []) as unknown[];
    const summaries = [...this.workloads.values()]
      .filter(({ request }) => body['namespace'] === 'system' || request['namespace'] === body['namespace'])
      .filter(({ id, request }) => filter.length === 0 || filter.includes(id) || filter.includes(request['name']))
      .map(({ id, request }) => ({
        id,
        name: request['name'],
        ...(this.#options.namesNamespaces ? { namespace: request['namespace'] } : {}),
        runtime: '--',
        start_time: '2026-05-01T10:01:00+02:00',
        tags: request['tags'] ?? null,
        workload_lifecycle: request['workload_lifecycle'],
        workload_state: 'running',
        workload_type: request['workload_type'],
      }));
    // A nil slice.
    return summaries.length === 0 ? 'null' : summaries;
  }
}

class GoError {
  readonly headers: MsgHdrs = headers();
  readonly body: string;

  constructor(code: number, text: string, body?: string) {
    this.headers.set('Nats-Service-Error', text);
    this.headers.set('Nats-Service-Error-Code', String(code));
    const error = code >= 500 ? 'internal server error' : (body ?? text);
    this.body = code === 100 ? (body ?? '') : JSON.stringify({ error_id: nuid.next(), error });
  }
}
