import { ProtocolError } from '../protocol-error.ts';

/** Stands for "any token" where a subject is subscribed to. A symbol, so that no text of a user can become a wildcard. */
export const ANY: unique symbol = Symbol('any token');

/** A token of a subject, or {@link ANY} in a subscription. */
export type Token = string | typeof ANY;

/** The administrative namespace. It may act for every other one. */
export const SYSTEM_NAMESPACE = 'system';

/**
 * Checks that `value` can be one token of a subject: not empty, no dot, white space, control character or wildcard.
 *
 * @param what names the value in the error, e.g. `namespace`.
 * @throws {ProtocolError} NEX_SUBJECT_INVALID
 */
export function subjectToken(value: string, what: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters would break the lines of the NATS protocol
  if (value !== '' && !/[\s.*>\u0000-\u001f\u007f]/.test(value)) return value;
  throw new ProtocolError(
    'NEX_SUBJECT_INVALID',
    `Cannot use ${what} "${value}": it is not one token of a NATS subject`,
    {
      hint: `Choose a ${what} that is not empty and has no dot, space, "*" or ">"`,
    },
  );
}

function token(value: Token, what: string): string {
  return value === ANY ? '*' : subjectToken(value, what);
}

const control = (namespace: Token, rest: string) => `$NEX.SVC.${token(namespace, 'namespace')}.control.${rest}`;
const agentOf = (node: Token, rest: string) => `$NEX.SVC.${token(node, 'node id')}.agent.${rest}`;
const feed = (from: Token, rest: string) => `$NEX.FEED.${token(from, 'namespace')}.${rest}`;
const nodeId = (id: Token) => token(id, 'node id');
const agentId = (id: Token) => token(id, 'nexlet id');
const workloadId = (id: Token) => token(id, 'workload id');

/** Subjects that nodes serve to clients: `$NEX.SVC.<namespace>.control.…`. The first six are served on `system` only. */
export const controlSubjects = {
  placementTags: (namespace: Token) => control(namespace, 'PTAGS'),
  ping: (namespace: Token) => control(namespace, 'PING'),
  pingNode: (namespace: Token, node: Token) => control(namespace, `PING.${nodeId(node)}`),
  info: (namespace: Token, node: Token) => control(namespace, `INFO.${nodeId(node)}`),
  lameduck: (namespace: Token, node: Token) => control(namespace, `LAMEDUCK.${nodeId(node)}`),
  agentId: (namespace: Token, node: Token) => control(namespace, `AGENTID.${nodeId(node)}`),
  auction: (namespace: Token) => control(namespace, 'AUCTION'),
  deploy: (namespace: Token, bid: Token) => control(namespace, `ADEPLOY.${token(bid, 'bid id')}`),
  undeploy: (namespace: Token, workload: Token) => control(namespace, `UNDEPLOY.${workloadId(workload)}`),
  clone: (namespace: Token, workload: Token) => control(namespace, `CLONE.${workloadId(workload)}`),
  listWorkloads: (namespace: Token) => control(namespace, 'WPING'),
  /** Published by nodes, always on `system`. */
  heartbeat: (node: Token) => control(SYSTEM_NAMESPACE, `HEARTBEAT.${nodeId(node)}`),
} as const;

/** Subjects between a node and its nexlets: `$NEX.SVC.<node>.agent.…`. */
export const agentSubjects = {
  /** Served by the node. */
  register: (node: Token, agent: Token) => agentOf(node, `REGISTER.${agentId(agent)}`),
  /** Served by one node of the nexus, for nexlets that no node has started. */
  registerRemote: (nexus: Token) => `$NEX.SVC.${token(nexus, 'nexus')}.agent.RREGISTER`,
  /** Published by the nexlet. */
  heartbeat: (node: Token, agent: Token) => agentOf(node, `HEARTBEAT.${agentId(agent)}`),
  /** Served by one nexlet. */
  startWorkload: (node: Token, agent: Token, workload: Token) =>
    agentOf(node, `${agentId(agent)}.STARTWORKLOAD.${workloadId(workload)}`),
  ping: (node: Token, agent: Token) => agentOf(node, `${agentId(agent)}.PING`),
  /** Served by nexlets of this project, for nodes that say so at the registration: what to bid in an auction. */
  bid: (node: Token, agent: Token) => agentOf(node, `${agentId(agent)}.BID`),
  /** Served by every nexlet of the node. */
  stopWorkload: (node: Token, workload: Token) => agentOf(node, `STOPWORKLOAD.${workloadId(workload)}`),
  getWorkload: (node: Token, workload: Token) => agentOf(node, `GETWORKLOAD.${workloadId(workload)}`),
  queryWorkloads: (node: Token) => agentOf(node, 'QUERYWORKLOADS'),
  pingAll: (node: Token) => agentOf(node, 'PING'),
  lameduck: (node: Token) => agentOf(node, 'SETLAMEDUCK'),
  /** Served by every nexlet of the nexus; the one that has the workload answers. */
  pingWorkload: (nexus: Token, workload: Token) =>
    `$NEX.SVC.${token(nexus, 'nexus')}.agent.PINGWORKLOAD.${workloadId(workload)}`,
} as const;

/** The two output streams of a workload. */
export type LogStream = 'stdout' | 'stderr';

/** Subjects that are published to and that nobody answers: `$NEX.FEED.<namespace, node or nexlet>.…`. */
export const feedSubjects = {
  logs: (namespace: Token, workload: Token, stream: LogStream | typeof ANY) =>
    feed(namespace, `logs.${workloadId(workload)}.${token(stream, 'stream')}`),
  metrics: (namespace: Token, workload: Token) => feed(namespace, `metrics.${workloadId(workload)}`),
  events: (from: Token, name: Token) => feed(from, `events.${token(name, 'event name')}`),
} as const;

/** The third token: namespace of a control subject, node of an agent subject, origin of a feed subject. */
export function subjectScope(subject: string): string {
  return subject.split('.')[2] ?? '';
}

/** The last token: the bid, workload or agent id of most subjects. */
export function lastToken(subject: string): string {
  return subject.slice(subject.lastIndexOf('.') + 1);
}

/**
 * What the subjects of a workload's own inboxes begin with: the option `inboxPrefix` of its NATS client, and
 * `NEX_WORKLOAD_NATS_INBOX_PREFIX` in its environment. Nodes of this project let it subscribe below it.
 */
export function inboxPrefix(workloadId: string): string {
  return `_INBOX_${subjectToken(workloadId, 'workload id')}`;
}
