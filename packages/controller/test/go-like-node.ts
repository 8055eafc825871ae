import { type Msg, type NatsConnection, nuid } from '@nats-io/nats-core';
import { createServer } from '@nats-io/nkeys';
import { createXKey, type EncryptedEnvironment, openEnvironment } from '@nex-nix/protocol';

interface Start {
  namespace: string;
  name: string;
  tags: Record<string, string>;
  workload_type: string;
  workload_lifecycle: string;
  run_request: string;
}

/** What it was told to run, by id. */
export interface GoLikeNode {
  readonly id: string;
  readonly workloads: Map<string, Start>;
  /** The environments that came sealed, opened. */
  readonly environments: Record<string, string>[];
  /** Loses the answer to the next deployment: it is carried out all the same. */
  loseAnswer: boolean;
  /** Says nothing any more. */
  silence(): void;
}

/**
 * A node that speaks the wire of Nex 0.4 by hand: its bids say nothing of the node, its lists nothing of where a workload
 * runs, a bid can be used again, and what it does not have it reports as an answer.
 */
export async function startGoLikeNode(nc: NatsConnection): Promise<GoLikeNode> {
  const id = createServer().getPublicKey();
  const xkey = createXKey();
  const workloads = new Map<string, Start>();
  const environments: Record<string, string>[] = [];
  const bids = new Set<string>();
  const body = (msg: Msg) => msg.json<Record<string, unknown>>();
  const node: GoLikeNode = { id, workloads, environments, loseAnswer: false, silence: () => undefined };
  const serve = (subject: string, answer: (msg: Msg) => unknown) =>
    nc.subscribe(subject, {
      queue: id,
      callback: (_error, msg) => {
        const value = answer(msg);
        if (value !== undefined) msg.respond(JSON.stringify(value));
      },
    });
  const subscriptions = [
    serve('$NEX.SVC.system.control.PING', () => ({
      agent_count: 1,
      node_id: id,
      start_time: '2026-05-01T10:00:00.123456789+02:00',
      state: 'running',
      tags: { 'nex.node': 'go' },
      version: '0.4.1',
      xkey: createXKey().getPublicKey(),
    })),
    serve('$NEX.SVC.*.control.AUCTION', (msg) => {
      if (body(msg)['agent_type'] !== 'native') return undefined;
      const bid = nuid.next();
      bids.add(bid);
      const schema = {
        type: 'object',
        properties: { uri: { type: 'string' }, encrypted_environment: { type: 'object' } },
      };
      return {
        bidder_id: bid,
        start_request_schema: JSON.stringify(schema),
        supported_lifecycles: ['job', 'service'],
        xkey: xkey.getPublicKey(),
      };
    }),
    serve('$NEX.SVC.*.control.ADEPLOY.*', (msg) => {
      if (!bids.has(msg.subject.split('.').at(-1) ?? '')) return undefined;
      const start = body(msg) as unknown as Start;
      const sealed = (JSON.parse(start.run_request) as { encrypted_environment?: EncryptedEnvironment })
        .encrypted_environment;
      if (sealed !== undefined) environments.push(openEnvironment(sealed, xkey));
      const workload = nuid.next();
      workloads.set(workload, start);
      if (!node.loseAnswer) return { id: workload, name: start.name };
      node.loseAnswer = false;
      return undefined;
    }),
    serve('$NEX.SVC.*.control.WPING', (msg) => {
      const { filter, namespace } = body(msg) as { filter: string[] | null; namespace: string };
      const listed = [...workloads].filter(
        ([workload, start]) =>
          (namespace === 'system' || start.namespace === namespace) &&
          (filter === null || filter.includes(workload) || filter.includes(start.name)),
      );
      if (listed.length === 0) return null;
      return listed.map(([workload, start]) => ({
        id: workload,
        metadata: null,
        name: start.name,
        namespace: start.namespace,
        runtime: '--',
        start_time: '2026-05-01T10:01:00+02:00',
        tags: start.tags,
        workload_lifecycle: start.workload_lifecycle,
        workload_state: 'running',
        workload_type: start.workload_type,
      }));
    }),
    serve('$NEX.SVC.*.control.UNDEPLOY.*', (msg) => {
      const workload = msg.subject.split('.').at(-1) ?? '';
      const stopped = workloads.delete(workload);
      return stopped
        ? { id: workload, message: '', stopped, workload_type: 'native' }
        : { id: workload, message: 'workload not found', stopped, workload_type: '' };
    }),
  ];
  node.silence = () => subscriptions.forEach((subscription) => subscription.unsubscribe());
  await nc.flush();
  return node;
}
