import {
  type Account,
  encodeAccount,
  encodeOperator,
  encodeUser,
  fmtCreds,
  type Operator,
  type SigningKeys,
  type User,
} from '@nats-io/jwt';
import { createAccount, createOperator, createUser, type KeyPair } from '@nats-io/nkeys';
import {
  ACCOUNT,
  accountClaims,
  type AccountUser,
  OPERATOR,
  SYSTEM_ACCOUNT,
  systemAccountClaims,
  userClaims,
} from './claims.ts';
import type { OnDevEvent } from './dev-event.ts';
import type { NscStore, StoredJwt } from './nsc-store.ts';
import { readIfPresent, writePrivateFile } from './write-file.ts';

export interface AccountIdentity {
  name: string;
  publicKey: string;
  jwt: string;
  /** Public key of the account signing key whose seed is in the store. */
  signingKey: string;
}

export interface Identities {
  /** Public key of the operator's key whose seed signs accounts. */
  operatorKey: string;
  system: AccountIdentity;
  account: AccountIdentity;
}

/**
 * Loads operator, accounts and users out of the store and makes those that are missing. What exists is left as it is, also when somebody
 * changed it with nsc. A JWT is written after the keys that it needs, so what was interrupted is completed by the next call.
 */
export async function ensureIdentities(store: NscStore, onEvent: OnDevEvent): Promise<Identities> {
  await store.writeMarkers(ACCOUNT);
  const operator = await ensureOperator(store, onEvent);
  const system = await ensureAccount(store, operator, { name: SYSTEM_ACCOUNT, claims: systemAccountClaims, onEvent });
  const account = await ensureAccount(store, operator, { name: ACCOUNT, claims: accountClaims, onEvent });
  await ensureUser(store, system, { name: 'sys', claims: {}, onEvent });
  for (const name of Object.keys(userClaims) as AccountUser[]) {
    await ensureUser(store, account, { name, claims: userClaims[name], onEvent });
  }
  const { sub, nats } = operator.claims;
  const operatorKey = (await findSeed(store, keysOf(nats.signing_keys))) ?? sub;
  return { operatorKey, system, account };
}

/** Writes into the operator's JWT where its server is, which nsc uses to push accounts. Nothing else in it changes. */
export async function setServiceUrl(store: NscStore, url: string): Promise<void> {
  const operator = await store.readJwt<Operator>(store.operatorFile);
  if (operator === undefined) throw store.damaged(`there is no ${store.operatorFile}`);
  const { name, sub, nats } = operator.claims;
  if (nats.account_server_url === url && nats.operator_service_urls?.join() === url) return;
  const key = await store.needKey(sub, `the operator "${name}"`);
  const claims = { ...nats, account_server_url: url, operator_service_urls: [url] };
  await writePrivateFile(store.operatorFile, await encodeOperator(name, key, claims));
}

async function ensureOperator(store: NscStore, onEvent: OnDevEvent): Promise<StoredJwt<Operator>> {
  const present = await store.readJwt<Operator>(store.operatorFile);
  onEvent({ type: 'identity', kind: 'operator', name: OPERATOR, created: present === undefined });
  if (present !== undefined) return present;
  const [key, signingKey, system] = [createOperator(), createOperator(), createAccount()];
  await Promise.all([key, signingKey, system].map((pair) => store.writeKey(pair)));
  const jwt = await encodeOperator(OPERATOR, key, {
    system_account: system.getPublicKey(),
    signing_keys: [signingKey.getPublicKey()],
  });
  await writePrivateFile(store.operatorFile, jwt);
  return reread(store, store.operatorFile);
}

interface AccountRequest {
  name: string;
  claims: Partial<Account>;
  onEvent: OnDevEvent;
}

async function ensureAccount(
  store: NscStore,
  operator: StoredJwt<Operator>,
  { name, claims, onEvent }: AccountRequest,
): Promise<AccountIdentity> {
  const file = store.accountFile(name);
  const present = await store.readJwt<Account>(file);
  const stored = present ?? (await createAccountJwt(store, operator, { name, claims }));
  const { iss, sub, nats } = stored.claims;
  const issuers = [operator.claims.sub, ...keysOf(operator.claims.nats.signing_keys)];
  if (!issuers.includes(iss)) throw store.damaged(`the account "${name}" belongs to another operator`);
  onEvent({ type: 'identity', kind: 'account', name, created: present === undefined });
  const signingKey = await findSeed(store, keysOf(nats.signing_keys));
  if (signingKey === undefined) throw store.damaged(`there is no signing key of the account "${name}"`);
  return { name, publicKey: sub, jwt: stored.jwt, signingKey };
}

async function createAccountJwt(
  store: NscStore,
  operator: StoredJwt<Operator>,
  { name, claims }: Omit<AccountRequest, 'onEvent'>,
): Promise<StoredJwt<Account>> {
  const operatorKey = await findSeed(store, keysOf(operator.claims.nats.signing_keys));
  const signer = await store.needKey(operatorKey ?? operator.claims.sub, `the operator "${OPERATOR}"`);
  const signingKey = createAccount();
  const key = await accountKey(store, operator, name);
  await store.writeKey(signingKey);
  const jwt = await encodeAccount(name, key, { ...claims, signing_keys: [signingKey.getPublicKey()] }, { signer });
  await writePrivateFile(store.accountFile(name), jwt);
  return reread(store, store.accountFile(name));
}

/** The system account's key was made with the operator, whose JWT names it; any other account gets a new one. */
async function accountKey(store: NscStore, operator: StoredJwt<Operator>, name: string): Promise<KeyPair> {
  const system = operator.claims.nats.system_account;
  if (name === SYSTEM_ACCOUNT && system !== undefined) return store.needKey(system, `the account "${name}"`);
  const key = createAccount();
  await store.writeKey(key);
  return key;
}

interface UserRequest {
  name: string;
  claims: Partial<User>;
  onEvent: OnDevEvent;
}

async function ensureUser(
  store: NscStore,
  account: AccountIdentity,
  { name, claims, onEvent }: UserRequest,
): Promise<void> {
  const file = store.userFile(account.name, name);
  const credsFile = store.credsFile(account.name, name);
  const present = await store.readJwt<User>(file);
  if (present !== undefined && (present.claims.nats.issuer_account ?? present.claims.iss) !== account.publicKey) {
    throw store.damaged(`the user "${name}" belongs to another account than "${account.name}"`);
  }
  onEvent({ type: 'identity', kind: 'user', name, created: present === undefined });
  if (present !== undefined && (await readIfPresent(credsFile)) !== undefined) return;
  if (present !== undefined) {
    const key = await store.needKey(present.claims.sub, `the user "${name}"`);
    await writePrivateFile(credsFile, fmtCreds(present.jwt, key));
    return;
  }
  const key = createUser();
  const signer = await store.needKey(account.signingKey, `the account "${account.name}"`);
  const jwt = await encodeUser(name, key, account.publicKey, claims, { signer });
  await store.writeKey(key);
  await writePrivateFile(credsFile, fmtCreds(jwt, key));
  await writePrivateFile(file, jwt);
}

async function reread<T>(store: NscStore, file: string): Promise<StoredJwt<T>> {
  const stored = await store.readJwt<T>(file);
  if (stored === undefined) throw store.damaged(`${file} has gone`);
  return stored;
}

/** Public keys of the signing keys that sign without a scope. */
function keysOf(signingKeys: SigningKeys = []): string[] {
  return signingKeys.filter((key) => typeof key === 'string');
}

async function findSeed(store: NscStore, publicKeys: string[]): Promise<string | undefined> {
  for (const publicKey of publicKeys) {
    if ((await store.readKey(publicKey)) !== undefined) return publicKey;
  }
  return undefined;
}
