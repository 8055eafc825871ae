import { type Account, decode } from '@nats-io/jwt';
import type { NatsConnection } from '@nats-io/nats-core';
import { DevError } from './dev-error.ts';
import type { AccountIdentity } from './identities.ts';

const TIMEOUT_MS = 5000;

/**
 * Makes the server's resolver know an account. `nc` belongs to a user of the system account.
 * The server itself would take any JWT, also an older one that undoes what the newer said; so what it has is compared first.
 */
export async function pushAccount(
  nc: NatsConnection,
  account: AccountIdentity,
): Promise<'pushed' | 'unchanged' | 'newer-on-server'> {
  const current = await lookUp(nc, account.publicKey);
  if (current === account.jwt) return 'unchanged';
  if (current !== undefined && decode<Account>(current).iat > decode<Account>(account.jwt).iat)
    return 'newer-on-server';
  const reply = await nc.request('$SYS.REQ.CLAIMS.UPDATE', account.jwt, { timeout: TIMEOUT_MS });
  const { data, error } = reply.json<{ data?: { code: number }; error?: { description: string } }>();
  if (data?.code === 200) return 'pushed';
  throw new DevError(
    'DEVENV_PUSH_FAILED',
    `Cannot push the account "${account.name}" to nats-server: ${error?.description ?? 'it does not say why'}`,
  );
}

/** The account's JWT on the server. The list is asked first, because 2.9 does not answer about accounts that it does not have. */
async function lookUp(nc: NatsConnection, publicKey: string): Promise<string | undefined> {
  const list = await nc.request('$SYS.REQ.CLAIMS.LIST', '', { timeout: TIMEOUT_MS });
  if (list.json<{ data?: string[] }>().data?.includes(publicKey) !== true) return undefined;
  const found = await nc.request(`$SYS.REQ.ACCOUNT.${publicKey}.CLAIMS.LOOKUP`, '', { timeout: TIMEOUT_MS });
  const jwt = found.string();
  return jwt === '' ? undefined : jwt;
}
