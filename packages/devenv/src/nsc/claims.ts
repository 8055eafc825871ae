import type { Account, User } from '@nats-io/jwt';

/** Names of the identities. They are part of paths and contexts. */
export const OPERATOR = 'Nex';
export const SYSTEM_ACCOUNT = 'SYS';
export const ACCOUNT = 'Exp';

export type SystemUser = 'sys';
export type AccountUser = 'Admin' | 'Node' | 'EchoService';

/** Limits left out of a JWT are zero, which forbids everything; so each is spelled out. */
const UNLIMITED = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };

/** Claims of the system account, with the exports that nsc gives it. A server refuses to start when it has JetStream. */
export const systemAccountClaims: Partial<Account> = {
  limits: UNLIMITED,
  exports: [
    {
      name: 'account-monitoring-streams',
      subject: '$SYS.ACCOUNT.*.>',
      type: 'stream',
      account_token_position: 3,
      description: 'Account specific monitoring stream',
      info_url: 'https://docs.nats.io/nats-server/configuration/sys_accounts',
    },
    {
      name: 'account-monitoring-services',
      subject: '$SYS.REQ.ACCOUNT.*.*',
      type: 'service',
      response_type: 'Stream',
      account_token_position: 4,
      description: 'Request account specific monitoring services for: SUBSZ, CONNZ, LEAFZ, JSZ and INFO',
      info_url: 'https://docs.nats.io/nats-server/configuration/sys_accounts',
    },
  ],
};

/** Claims of the account that everything runs in: unlimited, with JetStream. */
export const accountClaims: Partial<Account> = {
  limits: { ...UNLIMITED, mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 },
};

/** Claims of the account's users. No permissions at all means that everything is allowed. */
export const userClaims: Record<AccountUser, Partial<User>> = {
  Admin: {},
  Node: {},
  EchoService: {
    bearer_token: true,
    sub: { allow: ['svc.>', '$SRV.>'] },
    // `resp` forbids every publish but one reply to each request, within its time (nanoseconds).
    resp: { max: 1, ttl: 120_000_000_000 },
  },
};
