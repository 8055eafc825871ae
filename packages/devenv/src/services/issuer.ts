import type { Account, Operator } from '@nats-io/jwt';
import { ACCOUNT } from '../nsc/claims.ts';
import type { AccountIdentity, Identities } from '../nsc/identities.ts';
import type { NscStore } from '../nsc/nsc-store.ts';
import { accountSigner, operatorSigner } from '../nsc/signing-keys.ts';

/** Whose keys make credentials for workloads, and take them back. */
export interface Issuer {
  operatorKey: Identities['operatorKey'];
  account: Pick<AccountIdentity, 'publicKey' | 'signingKey'>;
}

/**
 * The issuer that the store has; undefined while its identities are not made.
 *
 * @throws {DevError} DEVENV_STORE_INVALID
 */
export async function readIssuer(store: NscStore): Promise<Issuer | undefined> {
  const operator = await store.readJwt<Operator>(store.operatorFile);
  const account = await store.readJwt<Account>(store.accountFile(ACCOUNT));
  if (operator === undefined || account === undefined) return undefined;
  const signingKey = await accountSigner(store, operator.claims, account.claims);
  const operatorKey = await operatorSigner(store, operator.claims);
  return { operatorKey, account: { publicKey: account.claims.sub, signingKey } };
}

/** What a node takes to make credentials for its workloads, and to take them back. */
export function issuerEnvironment(store: NscStore, { account, operatorKey }: Issuer): Record<string, string> {
  return {
    NEX_ISSUER_SIGNING_KEY: store.keyFile(account.signingKey),
    NEX_ISSUER_ROOT_ACCOUNT: account.publicKey,
    ...(operatorKey === undefined
      ? {}
      : { NEX_ISSUER_OPERATOR_SEED: store.keyFile(operatorKey), NEX_SYSTEM_CONTEXT: 'Sys' }),
  };
}
