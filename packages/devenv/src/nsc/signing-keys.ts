import type { Account, ClaimsData, Operator, SigningKeys } from '@nats-io/jwt';
import type { NscStore } from './nsc-store.ts';

/** As nsc writes it; the types of the library lack it. */
type StrictOperator = Partial<Operator> & { strict_signing_key_usage?: boolean };

/** Public keys of the signing keys that sign without a scope. */
export function unscopedKeys({ signing_keys: keys = [] }: { signing_keys?: SigningKeys }): string[] {
  return keys.filter((key) => typeof key === 'string');
}

/** Whether a key is one that the operator signs accounts with. */
export function isIssuedBy({ sub, nats }: ClaimsData<Operator>, issuer: string): boolean {
  return [...(isStrict(nats) ? [] : [sub]), ...unscopedKeys(nats)].includes(issuer);
}

/** The key of the operator that signs accounts here: a signing key whose seed is there, else its own, where it allows that. */
export async function operatorSigner(
  store: NscStore,
  { sub, nats }: ClaimsData<Operator>,
): Promise<string | undefined> {
  return firstWithSeed(store, [...unscopedKeys(nats), ...(isStrict(nats) ? [] : [sub])]);
}

/**
 * The key of an account that signs users here: a signing key without a scope whose seed is there, else the account's own, where the operator
 * allows that.
 *
 * @throws {DevError} DEVENV_STORE_INVALID when there is none
 */
export async function accountSigner(
  store: NscStore,
  { nats: operator }: ClaimsData<Operator>,
  { sub, name, nats }: ClaimsData<Account>,
): Promise<string> {
  const strict = isStrict(operator);
  const key = await firstWithSeed(store, [...unscopedKeys(nats), ...(strict ? [] : [sub])]);
  if (key !== undefined) return key;
  const why = strict ? `, and the operator "${store.operator}" has users signed with nothing else` : '';
  throw store.unusable(
    `there is no signing key of the account "${name}"${why}`,
    `Put its seed into "${store.keystore}", or make one: ${store.command(`edit account -n ${name} --sk generate`)}`,
  );
}

function isStrict(operator: StrictOperator): boolean {
  return operator.strict_signing_key_usage === true;
}

async function firstWithSeed(store: NscStore, publicKeys: readonly string[]): Promise<string | undefined> {
  for (const publicKey of publicKeys) {
    if ((await store.readKey(publicKey)) !== undefined) return publicKey;
  }
  return undefined;
}
