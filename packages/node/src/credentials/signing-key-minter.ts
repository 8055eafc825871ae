import { encodeUser } from '@nats-io/jwt';
import { createUser, fromPublic, fromSeed, type KeyPair } from '@nats-io/nkeys';
import { NodeError } from '../node-error.ts';
import { derivedUser } from './derived-user.ts';
import { accessData, type Holder, type Minter, type ServerAccess } from './minter.ts';
import {
  agentPermissions,
  checkGrants,
  registrationPermissions,
  type UserPermissions,
  type WorkloadGrants,
  workloadPermissions,
} from './permissions.ts';
import type { Revoker } from './revoker.ts';

export interface SigningKeyMinterOptions extends ServerAccess {
  /** Seed of a signing key of the account, `SA…`; the account's own key will do. */
  seed: string;
  /** Public key of the account, `A…`. */
  rootAccount: string;
  /** How long credentials hold, in milliseconds. */
  ttl?: Partial<CredentialTtl>;
  /** What workloads may do beside what every workload may. */
  grants?: WorkloadGrants;
  /** Who tells the servers that a user is none any more. Without: credentials hold until they expire. */
  revoker?: Revoker | undefined;
}

export interface CredentialTtl {
  /** Default 10 minutes: a nexlet registers once, at its start. */
  registration: number;
  /** Default 24 hours: nexlets of this project renew theirs before. Nexlets of Go nex cannot. */
  agent: number;
  /** Default 30 days: a program that has them in its environment has no way to renew them. */
  workload: number;
}

const HOUR = 3_600_000;
export const DEFAULT_TTL: CredentialTtl = { registration: HOUR / 6, agent: 24 * HOUR, workload: 30 * 24 * HOUR };

/**
 * Mints a NATS user of its own for each nexlet and workload, with just the permissions it needs (see `permissions.ts`),
 * signed by a key of the account. Minting again renews: the user stays the same.
 *
 * @throws {NodeError} NODE_MINTER_INVALID, NODE_OPTION_INVALID
 */
export function signingKeyMinter(options: SigningKeyMinterOptions): Minter {
  const { seed, rootAccount, grants = {}, revoker } = options;
  const signer = accountSigner(seed);
  checkAccount(rootAccount);
  checkGrants(grants);
  const ttl = { ...DEFAULT_TTL, ...options.ttl };
  const userOf = (holder: Holder) => derivedUser(seed.trim(), holder);
  const mint = async (name: string, user: KeyPair, { permissions, ttlMs }: Warrant) => {
    const exp = Math.ceil((Date.now() + ttlMs) / 1_000);
    // A JWT signed by the account's own key names no other issuer.
    const jwt =
      signer.getPublicKey() === rootAccount
        ? await encodeUser(name, user, signer, permissions, { exp })
        : await encodeUser(name, user, rootAccount, permissions, { exp, signer });
    return accessData(options, {
      conn_name: name,
      nats_user_seed: new TextDecoder().decode(user.getSeed()),
      nats_user_jwt: jwt,
    });
  };
  return {
    registration: (scope) =>
      mint(scope.agentId, createUser(), { permissions: registrationPermissions(scope), ttlMs: ttl.registration }),
    agent: (scope) =>
      mint(scope.agentId, userOf({ kind: 'agent', nodeId: scope.nodeId, id: scope.agentId }), {
        permissions: agentPermissions(scope),
        ttlMs: ttl.agent,
      }),
    workload: async (scope) =>
      mint(scope.workloadId, userOf({ kind: 'workload', id: scope.workloadId }), {
        permissions: workloadPermissions(scope, grants),
        ttlMs: ttl.workload,
      }),
    ...(revoker === undefined ? {} : { revoke: (holder) => revoker.revoke(userOf(holder).getPublicKey()) }),
  };
}

interface Warrant {
  permissions: UserPermissions;
  ttlMs: number;
}

function accountSigner(seed: string): KeyPair {
  try {
    const pair = fromSeed(new TextEncoder().encode(seed.trim()));
    if (pair.getPublicKey().startsWith('A')) return pair;
  } catch (cause) {
    throw invalidSeed(cause);
  }
  throw invalidSeed();
}

function invalidSeed(cause?: unknown): NodeError {
  const message = 'Cannot mint credentials: the signing key seed is not one of an account (SA…)';
  return new NodeError('NODE_MINTER_INVALID', message, { cause });
}

function checkAccount(account: string): void {
  const refusal = `Cannot mint credentials for account "${account}"`;
  try {
    if (fromPublic(account).getPublicKey().startsWith('A')) return;
  } catch (cause) {
    throw new NodeError('NODE_MINTER_INVALID', `${refusal}: it is no public key`, { cause });
  }
  throw new NodeError('NODE_MINTER_INVALID', `${refusal}: it is not the public key of an account (A…)`);
}
