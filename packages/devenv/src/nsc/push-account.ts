import { type Account, Algorithms, type ClaimsData, decode, encode } from '@nats-io/jwt';
import type { NatsConnection } from '@nats-io/nats-core';
import type { KeyPair } from '@nats-io/nkeys';
import { DevError } from '../dev-error.ts';
import type { OnDevEvent } from '../dev-event.ts';
import type { Identities, StoredAccount } from './identities.ts';
import type { NscStore } from './nsc-store.ts';

const TIMEOUT_MS = 5000;

/**
 * Makes the server's resolver know the accounts of a store. `nc` belongs to a user of the system account. Of accounts that are not ours a
 * failure is told, and no more.
 *
 * @throws {DevError} DEVENV_PUSH_FAILED
 */
export async function pushAccounts(
  nc: NatsConnection,
  { store, identities, onEvent }: { store: NscStore; identities: Identities; onEvent: OnDevEvent },
): Promise<void> {
  const { account, others, operatorKey } = identities;
  const signer = operatorKey === undefined ? undefined : await store.readKey(operatorKey);
  const push = async (one: StoredAccount) => {
    onEvent({ type: 'account', name: one.name, outcome: await pushAccount(nc, one, signer) });
  };
  await push(account);
  for (const other of others) {
    try {
      await push(other);
    } catch (error) {
      if (!(error instanceof DevError)) throw error;
      onEvent({ type: 'store-notice', message: error.message });
    }
  }
}

/**
 * The server itself would take any JWT, also an older one that undoes what the newer said; so what it has is compared first. Nodes revoke users
 * on the server alone: what it has of these goes into a newer JWT, which `signer`, the operator's, signs. The store is left as it is.
 */
async function pushAccount(
  nc: NatsConnection,
  account: StoredAccount,
  signer: KeyPair | undefined,
): Promise<'pushed' | 'unchanged' | 'newer-on-server'> {
  const current = await lookUp(nc, account.publicKey);
  if (current === account.jwt) return 'unchanged';
  let { jwt } = account;
  if (current !== undefined) {
    const [theirs, ours] = [decode<Account>(current), decode<Account>(jwt)];
    if (theirs.iat > ours.iat) return 'newer-on-server';
    const revocations = allRevocations(ours, theirs);
    if (Object.keys(revocations).some((user) => revocations[user] !== ours.nats.revocations?.[user])) {
      // Nobody's revocation is given up for whatever the newer one says.
      if (signer === undefined) return 'newer-on-server';
      jwt = await encode(Algorithms.v2, { ...ours, nats: { ...ours.nats, revocations } }, signer);
    }
  }
  const reply = await nc.request('$SYS.REQ.CLAIMS.UPDATE', jwt, { timeout: TIMEOUT_MS });
  const { data, error } = reply.json<{ data?: { code: number }; error?: { description: string } }>();
  if (data?.code === 200) return 'pushed';
  throw new DevError(
    'DEVENV_PUSH_FAILED',
    `Cannot push the account "${account.name}" to nats-server: ${error?.description ?? 'it does not say why'}`,
  );
}

/** Of each user, the latest: its JWTs of up to then are revoked. */
function allRevocations(...accounts: readonly ClaimsData<Account>[]): Record<string, number> {
  const all: Record<string, number> = {};
  for (const { nats } of accounts) {
    for (const [user, since] of Object.entries(nats.revocations ?? {})) all[user] = Math.max(all[user] ?? 0, since);
  }
  return all;
}

/** The account's JWT on the server. The list is asked first, because 2.9 does not answer about accounts that it does not have. */
async function lookUp(nc: NatsConnection, publicKey: string): Promise<string | undefined> {
  const list = await nc.request('$SYS.REQ.CLAIMS.LIST', '', { timeout: TIMEOUT_MS });
  if (list.json<{ data?: string[] }>().data?.includes(publicKey) !== true) return undefined;
  const found = await nc.request(`$SYS.REQ.ACCOUNT.${publicKey}.CLAIMS.LOOKUP`, '', { timeout: TIMEOUT_MS });
  const jwt = found.string();
  return jwt === '' ? undefined : jwt;
}
