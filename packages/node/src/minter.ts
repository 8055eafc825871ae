import { encodeUser } from '@nats-io/jwt';
import { createUser, fromPublic, fromSeed, type KeyPair } from '@nats-io/nkeys';
import { type NatsConnectionData, natsConnectionData } from '@nex-nix/protocol';
import { NodeError } from './node-error.ts';
import { agentPermissions, registrationPermissions, type UserPermissions, workloadPermissions } from './permissions.ts';

export interface AgentScope {
  readonly nodeId: string;
  readonly nexus: string;
  readonly agentId: string;
}

export interface WorkloadScope {
  readonly namespace: string;
  readonly workloadId: string;
}

/** Makes the credentials that a node hands out. */
export interface Minter {
  /** For a nexlet, to register with. */
  registration(scope: AgentScope): Promise<NatsConnectionData>;
  /** For a registered nexlet. */
  agent(scope: AgentScope): Promise<NatsConnectionData>;
  workload(scope: WorkloadScope): Promise<NatsConnectionData>;
}

/** Names the servers and nothing else. For servers that let everybody in. */
export function fullAccessMinter(servers: readonly string[]): Minter {
  const data = async () => natsConnectionData({ nats_servers: [...servers] });
  return { registration: data, agent: data, workload: data };
}

export interface SigningKeyMinterOptions {
  servers: readonly string[];
  /** Seed of a signing key of the account, `SA…`; the account's own key will do. */
  seed: string;
  /** Public key of the account, `A…`. */
  rootAccount: string;
  /** How long credentials hold, in milliseconds. */
  ttl?: Partial<CredentialTtl>;
}

export interface CredentialTtl {
  /** Default 10 minutes: a nexlet registers once, at its start. */
  registration: number;
  /** Default 24 hours: nexlets of this project renew theirs before. Nexlets of Go nex cannot. */
  agent: number;
  /** Default 30 days: a workload gets its credentials at its start and has no way to renew them. */
  workload: number;
}

const HOUR = 3_600_000;
const DEFAULT_TTL: CredentialTtl = { registration: HOUR / 6, agent: 24 * HOUR, workload: 30 * 24 * HOUR };

/**
 * Mints a fresh NATS user for each nexlet and workload, with just the permissions it needs (see `permissions.ts`),
 * signed by a key of the account.
 *
 * @throws {NodeError} NODE_MINTER_INVALID
 */
export function signingKeyMinter({ servers, seed, rootAccount, ttl }: SigningKeyMinterOptions): Minter {
  const signer = accountSigner(seed);
  checkAccount(rootAccount);
  const limits = { ...DEFAULT_TTL, ...ttl };
  const mint = async (name: string, permissions: UserPermissions, ttlMs: number) => {
    const user = createUser();
    const exp = Math.ceil((Date.now() + ttlMs) / 1_000);
    // A JWT signed by the account's own key names no other issuer.
    const jwt =
      signer.getPublicKey() === rootAccount
        ? await encodeUser(name, user, signer, permissions, { exp })
        : await encodeUser(name, user, rootAccount, permissions, { exp, signer });
    return natsConnectionData({
      conn_name: name,
      nats_servers: [...servers],
      nats_user_seed: new TextDecoder().decode(user.getSeed()),
      nats_user_jwt: jwt,
    });
  };
  return {
    registration: (scope) => mint(scope.agentId, registrationPermissions(scope), limits.registration),
    agent: (scope) => mint(scope.agentId, agentPermissions(scope), limits.agent),
    workload: (scope) => mint(scope.workloadId, workloadPermissions(scope), limits.workload),
  };
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
  try {
    if (fromPublic(account).getPublicKey().startsWith('A')) return;
  } catch (cause) {
    throw new NodeError(
      'NODE_MINTER_INVALID',
      `Cannot mint credentials for account "${account}": it is no public key`,
      {
        cause,
      },
    );
  }
  throw new NodeError(
    'NODE_MINTER_INVALID',
    `Cannot mint credentials for account "${account}": it is not the public key of an account (A…)`,
  );
}
