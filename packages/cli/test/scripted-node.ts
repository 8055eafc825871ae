import type { Msg, NatsConnection } from '@nats-io/nats-core';
import { nkeys, nuid } from '@nats-io/nats-core';

type Json = Record<string, unknown>;

interface Running {
  readonly request: Json;
  state: string;
}

export interface ScriptedNodeOptions {
  name?: string;
  /** Of its one nexlet. Default: nix. */
  type?: string;
  /** Whether its nexlet takes sealed environments, and the node says who it is when it bids. Default true; false: as a Go node. */
  isOurs?: boolean;
}

/**
 * A node as the wire shows it, written from the protocol's reference and without this project's code: it runs nothing, keeps
 * what it was asked for, and says what it is told to say.
 */
export class ScriptedNode {
  readonly id = nkeys.createServer().getPublicKey();
  readonly name: string;
  readonly workloads = new Map<string, Running>();
  /** The bodies of auctions and deployments, in their order. */
  readonly auctions: Json[] = [];
  readonly deployments: Json[] = [];
  readonly lameducks: Json[] = [];
  /** What lists say of all workloads beside what they always do. */
  metadata: Record<string, string> = {};
  /** Called after a deployment was answered. */
  onDeployed: ((id: string, request: Json) => void) | undefined;
  readonly #nc: NatsConnection;
  readonly #type: string;
  readonly #isOurs: boolean;
  readonly #xkey = nkeys.createCurve();

  constructor(nc: NatsConnection, { name = 'scripted', type = 'nix', isOurs = true }: ScriptedNodeOptions = {}) {
    this.#nc = nc;
    this.name = name;
    this.#type = type;
    this.#isOurs = isOurs;
    const control = '$NEX.SVC.*.control.';
    this.#serve(`${control}PING`, (body) => {
      const filter = Object.entries((body['filter'] as Record<string, string> | null) ?? {});
      return filter.every(([key, value]) => this.#tags[key] === value) ? this.#ping() : undefined;
    });
    this.#serve(`${control}INFO.${this.id}`, () => this.#info());
    this.#serve(`${control}LAMEDUCK.${this.id}`, (body) => {
      this.lameducks.push(body);
      return { message: 'node entering lameduck mode', success: true };
    });
    this.#serve(`${control}AUCTION`, (body) => this.#bid(body));
    this.#serve(`${control}ADEPLOY.*`, (body) => this.#deploy(body));
    this.#serve(`${control}WPING`, (body) => this.#list(body));
    this.#serve(`${control}UNDEPLOY.*`, (_body, id) => {
      const stopped = this.workloads.delete(id);
      return { id, message: '', stopped, workload_type: stopped ? this.#type : '' };
    });
    this.#serve(`${control}CLONE.*`, (body, id) => this.#clone(body, id));
  }

  /** Has a workload that nobody has asked for over the wire; returns its id. */
  run(name: string, namespace = 'system'): string {
    const id = nuid.next();
    const request = {
      description: '',
      name,
      namespace,
      run_request: '{}',
      tags: {},
      workload_lifecycle: 'service',
      workload_type: this.#type,
    };
    this.workloads.set(id, { request, state: 'running' });
    return id;
  }

  /** Publishes a line of a workload's output. */
  log(namespace: string, id: string, line: string): void {
    this.#nc.publish(`$NEX.FEED.${namespace}.logs.${id}.stdout`, line);
  }

  /** Publishes an event of a workload. */
  event(namespace: string, name: string, body: Json): void {
    this.#nc.publish(`$NEX.FEED.${namespace}.events.${name}`, JSON.stringify(body));
  }

  /** The environment that a deployment was sealed with. */
  opened(runRequest: string): unknown {
    const { encrypted_environment: sealed } = JSON.parse(runRequest) as {
      encrypted_environment: { base64_encrypted_env: string; encrypted_by: string };
    };
    const bytes = this.#xkey.open(Buffer.from(sealed.base64_encrypted_env, 'base64'), sealed.encrypted_by);
    return JSON.parse(new TextDecoder().decode(bytes ?? undefined));
  }

  get #tags(): Record<string, string> {
    return {
      'nex.node': this.name,
      'nex.nexus': 'nexus',
      'nex.lameduck': 'false',
      'nex.os': 'linux',
      'nex.arch': 'amd64',
      'nex.cpucount': '8',
    };
  }

  #ping(): Json {
    const start = '2026-05-01T10:00:00.123456789Z';
    return {
      agent_count: 1,
      node_id: this.id,
      start_time: start,
      state: 'running',
      tags: this.#tags,
      version: '0.4.1',
      xkey: this.#xkey.getPublicKey(),
    };
  }

  #info(): Json {
    const summary = {
      name: this.#type,
      start_time: '2026-05-01T10:00:00Z',
      state: 'running',
      supported_lifecycles: 'service,job',
      type: this.#type,
      version: '9.8.7',
      workload_count: this.workloads.size,
    };
    return {
      node_id: this.id,
      tags: this.#tags,
      uptime: '5.2s',
      version: '0.4.1',
      xkey: this.#xkey.getPublicKey(),
      node_agent_summaries: [
        {
          agent_health: 'healthy',
          agent_health_stoplight: '🟢',
          agent_id: 'k'.repeat(22),
          agent_last_heartbeat_time: '2026-05-01T10:00:05Z',
          agent_summary: summary,
        },
      ],
    };
  }

  #bid(body: Json): Json | undefined {
    this.auctions.push(body);
    const tags = Object.entries(body['tags'] as Record<string, string>);
    if (body['agent_type'] !== this.#type || !tags.every(([key, value]) => this.#tags[key] === value)) return undefined;
    const sealed = this.#isOurs ? { encrypted_environment: { type: 'object' } } : {};
    return {
      bidder_id: nuid.next(),
      start_request_schema: JSON.stringify({
        type: 'object',
        properties: { environment: { type: 'object' }, ...sealed },
      }),
      supported_lifecycles: ['service', 'job', 'function'],
      xkey: this.#xkey.getPublicKey(),
      ...(this.#isOurs ? { node_id: this.id, node_name: this.name } : {}),
    };
  }

  #deploy(request: Json): Json {
    this.deployments.push(request);
    const id = nuid.next();
    this.workloads.set(id, { request, state: 'running' });
    // After the answer, which goes out as soon as this returns.
    queueMicrotask(() => this.onDeployed?.(id, request));
    return { id, name: request['name'] };
  }

  #list(body: Json): Json[] {
    const filter = (body['filter'] as string[] | null) ?? [];
    const namespace = body['namespace'];
    return [...this.workloads].flatMap(([id, { request, state }]) => {
      const isWanted = filter.length === 0 || filter.includes(id) || filter.includes(String(request['name']));
      if (!isWanted || (namespace !== 'system' && namespace !== request['namespace'])) return [];
      return {
        id,
        name: request['name'],
        namespace: request['namespace'],
        metadata: this.#isOurs
          ? { node_id: this.id, store_path: '/nix/store/x', exit_code: '3', reason: 'for a test', ...this.metadata }
          : {},
        runtime: '--',
        start_time: '2026-05-01T10:01:00Z',
        tags: request['tags'],
        workload_lifecycle: request['workload_lifecycle'],
        workload_state: state,
        workload_type: request['workload_type'],
      };
    });
  }

  /** Hands a workload out; its environment is sealed for the key that asks. */
  #clone(body: Json, id: string): Json | undefined {
    const request = this.workloads.get(id)?.request;
    if (request === undefined) return undefined;
    const runRequest = request['run_request'] as string;
    const parsed = JSON.parse(runRequest) as Json;
    if (parsed['encrypted_environment'] === undefined) return request;
    const clear = new TextEncoder().encode(JSON.stringify(this.opened(runRequest)));
    const sealed = this.#xkey.seal(clear, body['new_target_xkey'] as string);
    const again = {
      base64_encrypted_env: Buffer.from(sealed).toString('base64'),
      encrypted_by: this.#xkey.getPublicKey(),
    };
    return { ...request, run_request: JSON.stringify({ ...parsed, encrypted_environment: again }) };
  }

  #serve(subject: string, answer: (body: Json, lastToken: string) => unknown): void {
    const callback = (error: Error | null, msg: Msg): void => {
      if (error !== null) return;
      const reply = answer(msg.json<Json>(), msg.subject.slice(msg.subject.lastIndexOf('.') + 1));
      if (reply !== undefined) msg.respond(JSON.stringify(reply));
    };
    this.#nc.subscribe(subject, { callback });
  }
}
