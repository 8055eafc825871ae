import { createAccount, createOperator, type KeyPair } from '@nats-io/nkeys';
import { type Account, encodeOperator, type Operator } from '@nats-io/jwt';
import { SYSTEM_ACCOUNT } from './claims.ts';
import type { OnDevEvent } from '../dev-event.ts';
import type { NscStore, StoredJwt } from './nsc-store.ts';
import { writePrivateFile } from '../write-file.ts';

/**
 * The operator of the store, or a new one. It has a system account, of which the key at least is there when it was made here.
 *
 * @throws {DevError} DEVENV_STORE_INVALID
 */
export async function ensureOperator(store: NscStore, onEvent: OnDevEvent): Promise<StoredJwt<Operator>> {
  const { operator: name } = store;
  const present = await store.readJwt<Operator>(store.operatorFile);
  onEvent({ type: 'identity', kind: 'operator', name, created: present === undefined });
  if (present !== undefined)
    return present.claims.nats.system_account === undefined ? withSystem(store, present) : present;
  const [key, signingKey, system] = [createOperator(), createOperator(), createAccount()];
  await Promise.all([key, signingKey, system].map((pair) => store.writeKey(pair)));
  const jwt = await encodeOperator(name, key, {
    system_account: system.getPublicKey(),
    signing_keys: [signingKey.getPublicKey()],
  });
  await writePrivateFile(store.operatorFile, jwt);
  return needOperator(store);
}

/** An operator of nsc has no system account unless one was asked for, and without it no server can be told anything. */
async function withSystem(store: NscStore, operator: StoredJwt<Operator>): Promise<StoredJwt<Operator>> {
  const { sub, nats } = operator.claims;
  const key = await store.needKey(sub, `the operator "${store.operator}", which has no system account,`);
  const present = await store.readJwt<Account>(store.accountFile(SYSTEM_ACCOUNT));
  let system = present?.claims.sub;
  if (system === undefined) {
    const pair = createAccount();
    await store.writeKey(pair);
    system = pair.getPublicKey();
  }
  await writeOperator(store, operator, { key, claims: { ...nats, system_account: system } });
  return needOperator(store);
}

async function writeOperator(
  store: NscStore,
  { claims: { name, exp, nbf } }: StoredJwt<Operator>,
  { key, claims }: { key: KeyPair; claims: Partial<Operator> },
): Promise<void> {
  const times = { ...(exp === undefined ? {} : { exp }), ...(nbf === undefined ? {} : { nbf }) };
  await writePrivateFile(store.operatorFile, await encodeOperator(name, key, claims, times));
}

/**
 * Writes into the operator's JWT where its server is, which nsc uses to push accounts. Nothing else in it changes. What names another
 * machine is of somebody's own, and stays.
 */
export async function setServiceUrl(store: NscStore, url: string, onEvent?: OnDevEvent): Promise<void> {
  const operator = await needOperator(store);
  const { sub, nats } = operator.claims;
  const { account_server_url: pushUrl, operator_service_urls: urls = [] } = nats;
  const next = {
    account_server_url: isOfThisMachine(pushUrl) ? url : pushUrl,
    operator_service_urls: urls.every(isOfThisMachine) ? [url] : urls,
  };
  const isOurs = next.account_server_url === url;
  if (pushUrl !== next.account_server_url || urls.join() !== next.operator_service_urls.join()) {
    const key = await store.readKey(sub);
    if (key !== undefined) return writeOperator(store, operator, { key, claims: { ...nats, ...next } });
  } else if (isOurs) return;
  const push = store.command(`push -A -u ${url}`);
  const why = isOurs ? 'its key is not in the store' : `its JWT names ${pushUrl}`;
  onEvent?.({ type: 'store-notice', message: `nsc does not know of this server: ${why}. To push to it: ${push}` });
}

async function needOperator(store: NscStore): Promise<StoredJwt<Operator>> {
  const operator = await store.readJwt<Operator>(store.operatorFile);
  if (operator === undefined) throw store.damaged(`there is no ${store.operatorFile}`);
  return operator;
}

/** Also when there is no such URL. */
function isOfThisMachine(url: string | undefined): boolean {
  if (url === undefined) return true;
  const host = URL.parse(url)?.hostname;
  return host === 'localhost' || host === '[::1]' || /^127(?:\.\d+){3}$/.test(host ?? '');
}
