import type { Account, User } from '@nats-io/jwt';
import type { KnownAccount } from './identities.ts';
import type { NscStore, StoredJwt } from './nsc-store.ts';

/** A server refuses to start when its system account has it; our account is of no use without it. */
export function requireJetStream(
  store: NscStore,
  { system, account }: { system: KnownAccount; account: KnownAccount },
): void {
  if (hasJetStream(system.claims)) {
    const fix = store.command(`edit account -n ${system.name} --js-disable`);
    throw store.unusable(
      `the system account "${system.name}" has JetStream, which no server allows`,
      `Take it away: ${fix}`,
    );
  }
  if (hasJetStream(account.claims)) return;
  const fix = store.command(`edit account -n ${account.name} --js-enable 0`);
  throw store.unusable(`the account "${account.name}" has no JetStream`, `Give it: ${fix}`);
}

function hasJetStream({ limits }: Partial<Account>): boolean {
  const { disk_storage: disk = 0, tiered_limits: tiers = {} } = limits ?? {};
  return [disk, ...Object.values(tiers).map((tier) => tier?.disk_storage ?? 0)].some((bytes) => bytes !== 0);
}

/** Whether the server will let a user in: it would say no more than that it does not. */
export function requireValid(store: NscStore, account: KnownAccount, { claims }: StoredJwt<User>): void {
  const { name, sub, iss, iat, exp, nats } = claims;
  const who = `the user "${name}"`;
  const where = `-a ${account.name} -n ${name}`;
  if ((nats.issuer_account ?? iss) !== account.publicKey) {
    throw store.damaged(`${who} belongs to another account than "${account.name}"`);
  }
  const { revocations = {} } = account.claims;
  if (iat <= Math.max(revocations[sub] ?? 0, revocations['*'] ?? 0)) {
    const fix = store.command(`revocations delete-user ${where}`);
    throw store.unusable(`${who} is revoked in the account "${account.name}"`, `Let it in again: ${fix}`);
  }
  if (exp !== undefined && exp * 1000 <= Date.now()) {
    const fix = store.command(`edit user ${where} --expiry 0`);
    throw store.unusable(`${who} has expired`, `Have it last: ${fix}`);
  }
}
