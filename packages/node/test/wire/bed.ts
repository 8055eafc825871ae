// The node as Go peers see it: raw requests and raw replies, written from the protocol page and not by our client.
import type { Msg, NatsConnection, Subscription } from '@nats-io/nats-core';
import { startNatsServer, type TempDir, tempDir, type TestNatsServer } from '@nex-nix/test-kit';
import { expect } from 'vitest';
import { type Node, type NodeOptions, startNode } from '../../src/index.ts';
import { type MemoryNexlet, memoryNexlet } from '../memory-nexlet.ts';

export const NUID = /^[0-9A-Za-z]{22}$/;
export const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;
export const anyText = expect.any(String) as unknown;

/** The registration of a Go nexlet. */
export const registration = {
  description: '',
  max_workloads: 0,
  name: 'go_exec',
  public_xkey: 'XB',
  register_type: 'native',
  start_request_schema: '{"type":"object"}',
  version: '0.0.0',
};

export const workload = (more: object = {}) => ({
  description: '',
  name: 'web',
  namespace: 'default',
  run_request: '{"program":"web"}',
  tags: null,
  workload_lifecycle: 'service',
  workload_type: 'memory',
  ...more,
});

export interface ErrorReply {
  code: string;
  header: string;
  error: unknown;
}

/** A node with a nexlet of type "memory" and the tag region=lab, and raw NATS to talk to it. */
export class WireBed implements AsyncDisposable {
  readonly server: TestNatsServer;
  readonly dir: TempDir;
  readonly nc: NatsConnection;
  readonly nexlet: MemoryNexlet;
  readonly node: Node;

  private constructor(parts: Pick<WireBed, 'server' | 'dir' | 'nc' | 'nexlet' | 'node'>) {
    this.server = parts.server;
    this.dir = parts.dir;
    this.nc = parts.nc;
    this.nexlet = parts.nexlet;
    this.node = parts.node;
  }

  static async start(given: Partial<NodeOptions> | ((url: string) => Partial<NodeOptions>) = {}): Promise<WireBed> {
    const server = await startNatsServer({ jetstream: false });
    const options = typeof given === 'function' ? given(server.url) : given;
    const dir = await tempDir();
    const nc = await server.connect();
    const nexlet = memoryNexlet();
    const node = await startNode(await server.connect(), {
      name: 'n1',
      tags: { region: 'lab' },
      stateDir: dir.path,
      version: '0.1.0',
      nexlets: [nexlet.definition],
      ...options,
    });
    return new WireBed({ server, dir, nc, nexlet, node });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.node[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
    await this.dir[Symbol.asyncDispose]();
  }

  ask(subject: string, body: string): Promise<Msg> {
    return this.nc.request(subject, body, { timeout: 2_000 });
  }

  async json(subject: string, body: unknown): Promise<unknown> {
    const reply = await this.ask(subject, JSON.stringify(body));
    expect(reply.headers?.get('Nats-Service-Error') ?? '').toBe('');
    return reply.json();
  }

  /** No reply, and nobody says that there are no responders. The node has answered a later request when this is sure. */
  async expectSilence(subject: string, body: string): Promise<void> {
    const replies: Msg[] = [];
    const inbox = `_INBOX.silence.${Math.random().toString(36).slice(2)}`;
    const subscription = this.nc.subscribe(inbox, { callback: (_error, msg) => void replies.push(msg) });
    this.nc.publish(subject, body, { reply: inbox });
    await this.nc.flush();
    await this.ask('$NEX.SVC.system.control.PING', '{"filter":null}');
    subscription.unsubscribe();
    expect(replies.map((reply) => reply.string())).toEqual([]);
  }

  async expectError(subject: string, body: string, wanted: ErrorReply): Promise<void> {
    const reply = await this.ask(subject, body);
    expect(reply.headers?.get('Nats-Service-Error-Code')).toBe(wanted.code);
    expect(reply.headers?.get('Nats-Service-Error')).toBe(wanted.header);
    expect(reply.json()).toEqual({ error_id: expect.stringMatching(NUID) as unknown, error: wanted.error });
  }

  async bid(namespace = 'default', type = 'memory'): Promise<string> {
    const subject = `$NEX.SVC.${namespace}.control.AUCTION`;
    const offer = (await this.json(subject, { agent_type: type, auction_id: 'a', tags: null })) as {
      bidder_id: string;
    };
    return offer.bidder_id;
  }

  async deploy(more: object = {}, namespace = 'default'): Promise<string> {
    const subject = `$NEX.SVC.${namespace}.control.ADEPLOY.${await this.bid(namespace)}`;
    return ((await this.json(subject, workload(more))) as { id: string }).id;
  }

  stop(id: string, namespace = 'default'): Promise<unknown> {
    return this.json(`$NEX.SVC.${namespace}.control.UNDEPLOY.${id}`, { namespace });
  }

  /** Whether the node bids for a type, found out without waiting for a silence to end. */
  async bidsFor(type: string): Promise<boolean> {
    const body = { auction_id: 'a', tags: {}, explain: true, agent_type: type };
    const reply = await this.ask('$NEX.SVC.default.control.AUCTION', JSON.stringify(body));
    return reply.headers?.get('Nex-No-Bid') !== 'true';
  }

  /** What a node says that does not bid and is asked why. */
  async whyNoBid(request: object): Promise<string> {
    const body = { auction_id: 'a', tags: {}, explain: true, ...request };
    const reply = await this.ask('$NEX.SVC.default.control.AUCTION', JSON.stringify(body));
    expect(reply.headers?.get('Nex-No-Bid')).toBe('true');
    return reply.json<{ reason: string }>().reason;
  }
}

/** How a scripted nexlet answers: not, not even that it is there; never; with no message at all. */
export type Misbehaviour = 'dead' | 'hanging' | 'garbage';

/** A nexlet that registers and beats by hand, and answers as badly as it is told to. */
export class ScriptedNexlet {
  readonly #bed: WireBed;
  readonly #id: string;
  readonly #summary: Record<string, unknown>;
  #subscriptions: Subscription[] = [];

  constructor(bed: WireBed, id: string, type: string) {
    this.#bed = bed;
    this.#id = id;
    this.#summary = {
      name: id,
      start_time: '2026-05-01T10:00:00Z',
      state: 'running',
      supported_lifecycles: 'service',
      type,
      version: '0.0.0',
      workload_count: 0,
    };
  }

  async register(more: object = {}): Promise<unknown> {
    const request = {
      ...registration,
      name: this.#id,
      public_xkey: `X${this.#id}`,
      register_type: this.#summary['type'],
      supported_lifecycles: ['service'],
      ...more,
    };
    return this.#bed.json(`$NEX.SVC.${this.#bed.node.id}.agent.REGISTER.${this.#id}`, request);
  }

  beat(more: object = {}): void {
    const body = JSON.stringify({ data: '', summary: { ...this.#summary, ...more } });
    this.#bed.nc.publish(`$NEX.SVC.${this.#bed.node.id}.agent.HEARTBEAT.${this.#id}`, body);
  }

  /** Listens where nexlets do, from now on. */
  behave(how: Misbehaviour): void {
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
    const own = `${this.#id}.>`;
    const subjects = [own, 'STOPWORKLOAD.*', 'GETWORKLOAD.*', 'QUERYWORKLOADS', 'PING', 'SETLAMEDUCK'];
    const callback = (_error: Error | null, msg: Msg) => void (how === 'garbage' && msg.respond('garbage'));
    this.#subscriptions =
      how === 'dead'
        ? []
        : subjects.map((each) => this.#bed.nc.subscribe(`$NEX.SVC.${this.#bed.node.id}.agent.${each}`, { callback }));
  }
}
