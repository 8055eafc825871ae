import {
  agentSubjects,
  ANY,
  controlSubjects,
  feedSubjects,
  inboxPrefix,
  LAST_LOGS_SUBJECTS,
  ProtocolError,
  subjectToken,
} from '@nex-nix/protocol';
import { NodeError } from '../node-error.ts';
import type { WorkloadScope } from './minter.ts';

/** What a NATS user may do, in the form of its JWT (`nats.pub`, `nats.sub`, `nats.resp`). */
export interface UserPermissions {
  pub: { allow: string[] };
  sub: { allow: string[] };
  /** Replies to requests on any subject; `ttl` in nanoseconds. An object here denies all publishing that `pub` does not allow. */
  resp?: { max: number; ttl: number };
}

/** What workloads may do beside what every workload may. */
export interface WorkloadGrants {
  /** Subjects that they may publish to. `{namespace}`, `{id}` and `{name}` stand for the workload's own. */
  readonly publish?: readonly string[];
  /** Subjects that they may subscribe to, written in the same way. */
  readonly subscribe?: readonly string[];
  /**
   * Whether a workload may subscribe to its private inboxes only, `_INBOX_<id>.>`. It then must be told to the NATS
   * client of the workload. Default: to `_INBOX.>` too, which clients use by themselves, and where a workload that
   * listens to all of it hears the answers that others in the account get.
   */
  readonly privateInboxes?: boolean;
}

const INBOXES = '_INBOX.>';
/** A node waits a minute for a nexlet to start a workload. */
const ONE_REPLY = { max: 1, ttl: 300e9 };

/** Enough to register, once. */
export function registrationPermissions({ nodeId, agentId }: { nodeId: string; agentId: string }): UserPermissions {
  return {
    pub: { allow: [agentSubjects.register(nodeId, agentId)] },
    sub: { allow: [INBOXES] },
  };
}

/**
 * What a nexlet does. More than Go nodes grant: logs, metrics and events go out under the namespace of the workload, after
 * a restart it asks which line was the last one, it registers again to renew its credentials, and hears the heartbeats of
 * its node to know that it is there.
 */
export function agentPermissions(who: { nodeId: string; agentId: string; nexus: string }): UserPermissions {
  const { nodeId, agentId, nexus } = who;
  return {
    pub: {
      allow: [
        agentSubjects.heartbeat(nodeId, agentId),
        agentSubjects.register(nodeId, agentId),
        feedSubjects.logs(ANY, ANY, 'stdout'),
        feedSubjects.logs(ANY, ANY, 'stderr'),
        feedSubjects.metrics(ANY, ANY),
        feedSubjects.events(ANY, ANY),
        ...LAST_LOGS_SUBJECTS,
        INBOXES,
      ],
    },
    sub: {
      allow: [
        agentSubjects.startWorkload(nodeId, agentId, ANY),
        agentSubjects.ping(nodeId, agentId),
        agentSubjects.bid(nodeId, agentId),
        agentSubjects.stopWorkload(nodeId, ANY),
        agentSubjects.getWorkload(nodeId, ANY),
        agentSubjects.queryWorkloads(nodeId),
        agentSubjects.pingAll(nodeId),
        agentSubjects.lameduck(nodeId),
        agentSubjects.pingWorkload(nexus, ANY),
        controlSubjects.heartbeat(nodeId),
        `$NEX.FEED.${agentId}.events`,
        '$SRV.>',
        INBOXES,
      ],
    },
    resp: ONE_REPLY,
  };
}

/**
 * What a workload may do with the credentials that its node mints: be asked, ask where it is granted to, and read the
 * logs of its namespace.
 *
 * @throws {NodeError} NODE_WORKLOAD_NAME_INVALID: a granted subject has `{name}` in it, and the name is no token
 */
export function workloadPermissions(workload: WorkloadScope, grants: WorkloadGrants = {}): UserPermissions {
  const { namespace, workloadId } = workload;
  const { publish = [], subscribe = [], privateInboxes = false } = grants;
  const granted = (subjects: readonly string[]) => subjects.map((subject) => fillIn(subject, workload));
  return {
    pub: { allow: [INBOXES, ...granted(publish)] },
    sub: {
      allow: [
        `$NEX.FEED.${namespace}.logs.>`,
        `${inboxPrefix(workloadId)}.>`,
        ...(privateInboxes ? [] : [INBOXES]),
        ...granted(subscribe),
      ],
    },
    resp: ONE_REPLY,
  };
}

function fillIn(template: string, { namespace, workloadId, name = '' }: WorkloadScope): string {
  const values: Readonly<Record<string, string>> = { '{namespace}': namespace, '{id}': workloadId, '{name}': name };
  return template.replaceAll(/\{(?:namespace|id|name)\}/g, (key) => ownToken(values[key] ?? '', key.slice(1, -1)));
}

/** A value must not become a wildcard, or two tokens. */
function ownToken(value: string, what: string): string {
  try {
    return subjectToken(value, what);
  } catch (cause) {
    if (!(cause instanceof ProtocolError)) throw cause;
    const message = `Cannot make credentials for a workload with the ${what} "${value}": subjects here are named after it`;
    throw new NodeError('NODE_WORKLOAD_NAME_INVALID', message, { cause, hint: cause.hint });
  }
}

/** @throws {NodeError} NODE_OPTION_INVALID */
export function checkGrants({ publish = [], subscribe = [] }: WorkloadGrants): void {
  for (const subject of [...publish, ...subscribe]) {
    const sample = fillIn(subject, { namespace: 'n', workloadId: 'i', name: 'n' });
    const tokens = sample.split('.');
    const usable = tokens.every((token, at) => isToken(token) || (token === '>' && at === tokens.length - 1));
    if (usable) continue;
    throw new NodeError('NODE_OPTION_INVALID', `Cannot let workloads use "${subject}": it is not a NATS subject`, {
      hint: 'Write them like svc.{namespace}.{name}.> or $SRV.>',
    });
  }
}

function isToken(token: string): boolean {
  return token === '*' || /^[^\s.*>{}]+$/.test(token);
}
