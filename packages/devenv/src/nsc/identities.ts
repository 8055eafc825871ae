import { type Account, encodeAccount, encodeUser, fmtCreds, type Operator, type User } from '@nats-io/jwt';
import { createAccount, createUser, type KeyPair } from '@nats-io/nkeys';
import { ACCOUNT, accountClaims, type AccountUser, SYSTEM_ACCOUNT, systemAccountClaims, userClaims } from './claims.ts';
import { DevError } from '../dev-error.ts';
import type { OnDevEvent } from '../dev-event.ts';
import { requireJetStream, requireValid } from './identity-checks.ts';
import type { NscStore, StoredJwt } from './nsc-store.ts';
import { ensureOperator } from './operator.ts';
import { accountSigner, isIssuedBy, operatorSigner, unscopedKeys } from './signing-keys.ts';
import { readIfPresent, writePrivateFile } from '../write-file.ts';

/** What a server is told about an account. */
export interface StoredAccount {
  name: string;
  publicKey: string;
  jwt: string;
}

export interface AccountIdentity extends StoredAccount {
  /** Public key of the key whose seed is in the store and signs users: a signing key of the account, else its own. */
  signingKey: string;
}

export interface Identities {
  /** Public key of the key of the operator whose seed is in the store and signs accounts; undefined when there is none. */
  operatorKey: string | undefined;
  system: AccountIdentity;
  account: AccountIdentity;
  /** The other accounts of the operator, which somebody made with nsc. */
  others: StoredAccount[];
}

/**
 * Loads operator, accounts and users out of the store and makes those that are missing. What exists is left as it is, whoever made it, also
 * when somebody changed it with nsc. A JWT is written after the keys that it needs, so what was interrupted is completed by the next call.
 *
 * @throws {DevError} DEVENV_STORE_INVALID
 */
export async function ensureIdentities(store: NscStore, onEvent: OnDevEvent): Promise<Identities> {
  await store.writeMarkers(ACCOUNT);
  const operator = await ensureOperator(store, onEvent);
  const system = await ensureAccount(store, operator, {
    name: await systemAccountName(store, operator),
    claims: systemAccountClaims,
    onEvent,
  });
  const account = await ensureAccount(store, operator, { name: ACCOUNT, claims: accountClaims, onEvent });
  requireJetStream(store, { system, account });
  // Side by side: each of them waits for the disk several times.
  await allOf([
    ensureUser(store, system, { name: 'sys', claims: {}, onEvent }),
    ...(Object.keys(userClaims) as AccountUser[]).map((name) =>
      ensureUser(store, account, { name, claims: userClaims[name], onEvent }),
    ),
  ]);
  const operatorKey = await operatorSigner(store, operator.claims);
  const others = await otherAccounts(store, operator, { known: [system.name, account.name], onEvent });
  return { operatorKey, system: plain(system), account: plain(account), others };
}

/** Where the operator's system account is; the name of one that is to be made otherwise. */
async function systemAccountName(store: NscStore, operator: StoredJwt<Operator>): Promise<string> {
  const wanted = operator.claims.nats.system_account;
  for (const name of await store.accounts()) {
    const file = store.accountFile(name);
    // Another one that is damaged is told of later.
    const account = name === SYSTEM_ACCOUNT ? await store.readJwt<Account>(file) : await readable(store, name);
    if (account?.claims.sub === wanted) return name;
    if (name === SYSTEM_ACCOUNT && account !== undefined) throw foreignSystem(store);
  }
  return SYSTEM_ACCOUNT;
}

function foreignSystem(store: NscStore): DevError {
  const why = `"${SYSTEM_ACCOUNT}" is not the system account of the operator "${store.operator}"`;
  return store.unusable(
    why,
    `Name the right one: ${store.command(`edit operator --system-account ${SYSTEM_ACCOUNT}`)}`,
  );
}

interface AccountRequest {
  name: string;
  claims: Partial<Account>;
  onEvent: OnDevEvent;
}

/** An account together with what it says. */
export type KnownAccount = AccountIdentity & { claims: Partial<Account> };

async function ensureAccount(
  store: NscStore,
  operator: StoredJwt<Operator>,
  { name, claims, onEvent }: AccountRequest,
): Promise<KnownAccount> {
  const present = await store.readJwt<Account>(store.accountFile(name));
  const stored = present ?? (await createAccountJwt(store, operator, { name, claims }));
  if (!isIssuedBy(operator.claims, stored.claims.iss)) {
    throw store.damaged(`the account "${name}" belongs to another operator`);
  }
  onEvent({ type: 'identity', kind: 'account', name, created: present === undefined });
  const signingKey = await accountSigner(store, operator.claims, stored.claims);
  return { name, publicKey: stored.claims.sub, jwt: stored.jwt, signingKey, claims: stored.claims.nats };
}

async function createAccountJwt(
  store: NscStore,
  operator: StoredJwt<Operator>,
  { name, claims }: Omit<AccountRequest, 'onEvent'>,
): Promise<StoredJwt<Account>> {
  const operatorKey = await operatorSigner(store, operator.claims);
  const what = `the operator "${store.operator}", which the account "${name}" is to be signed with,`;
  const signer = await store.needKey(operatorKey ?? unscopedKeys(operator.claims.nats)[0] ?? operator.claims.sub, what);
  const signingKey = createAccount();
  const [key] = await Promise.all([accountKey(store, operator, name), store.writeKey(signingKey)]);
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
  account: KnownAccount,
  { name, claims, onEvent }: UserRequest,
): Promise<void> {
  const file = store.userFile(account.name, name);
  const credsFile = store.credsFile(account.name, name);
  const present = await store.readJwt<User>(file);
  if (present !== undefined) requireValid(store, account, present);
  onEvent({ type: 'identity', kind: 'user', name, created: present === undefined });
  if (present !== undefined && (await readIfPresent(credsFile)) !== undefined) return;
  if (present !== undefined) {
    const key = await store.needKey(present.claims.sub, `the user "${name}"`);
    await writePrivateFile(credsFile, fmtCreds(present.jwt, key));
    return;
  }
  const key = createUser();
  const signer = await store.needKey(account.signingKey, `the account "${account.name}"`);
  // What the account's own key signs names no other issuer.
  const jwt =
    account.signingKey === account.publicKey
      ? await encodeUser(name, key, signer, claims)
      : await encodeUser(name, key, account.publicKey, claims, { signer });
  await allOf([store.writeKey(key), writePrivateFile(credsFile, fmtCreds(jwt, key))]);
  await writePrivateFile(file, jwt);
}

/** Waits for all of them, whatever becomes of one: nothing is written any more when it throws. */
async function allOf(tasks: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(tasks);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

/** What nobody needs to start is left out, and told. */
async function otherAccounts(
  store: NscStore,
  operator: StoredJwt<Operator>,
  { known, onEvent }: { known: readonly string[]; onEvent: OnDevEvent },
): Promise<StoredAccount[]> {
  const found: StoredAccount[] = [];
  for (const name of (await store.accounts()).filter((one) => !known.includes(one))) {
    const account = await readable(store, name, onEvent);
    if (account === undefined) continue;
    const { sub: publicKey, iss, exp } = account.claims;
    const isExpired = exp !== undefined && exp * 1000 <= Date.now();
    const why = isExpired
      ? 'it has expired'
      : isIssuedBy(operator.claims, iss)
        ? undefined
        : 'another operator signed it';
    if (why === undefined) found.push({ name, publicKey, jwt: account.jwt });
    else onEvent({ type: 'store-notice', message: `The account "${name}" is left out: ${why}` });
  }
  return found;
}

async function readable(store: NscStore, name: string, onEvent?: OnDevEvent): Promise<StoredJwt<Account> | undefined> {
  try {
    return await store.readJwt<Account>(store.accountFile(name));
  } catch (error) {
    if (!(error instanceof DevError)) throw error;
    onEvent?.({ type: 'store-notice', message: `The account "${name}" is left out: ${error.message}` });
    return undefined;
  }
}

async function reread<T>(store: NscStore, file: string): Promise<StoredJwt<T>> {
  const stored = await store.readJwt<T>(file);
  if (stored === undefined) throw store.damaged(`${file} has gone`);
  return stored;
}

function plain({ name, publicKey, jwt, signingKey }: AccountIdentity): AccountIdentity {
  return { name, publicKey, jwt, signingKey };
}
