import { agentSubjects, ANY, feedSubjects } from '@nex-nix/protocol';

/** What a NATS user may do, in the form of its JWT (`nats.pub`, `nats.sub`, `nats.resp`). */
export interface UserPermissions {
  pub: { allow: string[] };
  sub: { allow: string[] };
  /** Replies to requests on any subject; `ttl` in nanoseconds. An object here denies all publishing that `pub` does not allow. */
  resp?: { max: number; ttl: number };
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
 * What a nexlet does. More than Go nodes grant: logs, metrics and events go out under the namespace of the workload,
 * and the nexlet registers again to renew its credentials.
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
        `$NEX.FEED.${agentId}.events`,
        '$SRV.>',
        INBOXES,
      ],
    },
    resp: ONE_REPLY,
  };
}

/** What a workload may do with the credentials that its node mints: be asked, ask, and read the logs of its namespace. */
export function workloadPermissions({ namespace }: { namespace: string }): UserPermissions {
  return {
    pub: { allow: [INBOXES] },
    sub: {
      allow: [feedSubjects.logs(namespace, ANY, ANY).replace(/\*\.\*$/, '>'), INBOXES],
    },
    resp: ONE_REPLY,
  };
}
