import { setTimeout as delay } from 'node:timers/promises';
import { type Account, Algorithms, type ClaimsData, decode, encode, type Operator } from '@nats-io/jwt';
import type { NatsConnection } from '@nats-io/nats-core';
import { fromSeed, type KeyPair } from '@nats-io/nkeys';
import type { Logger } from '@nex-nix/nexlet';
import { NodeError } from '../node-error.ts';
import type { RevocationLedger } from './revocation-ledger.ts';

/** Takes back what was minted. */
export interface Revoker {
  /** Makes the JWTs of a NATS user worthless, for good, and cuts its connections. Resolves when the servers know. */
  revoke(userPublicKey: string): Promise<void>;
}

export interface AccountRevokerOptions {
  /** Seed of the operator or of a signing key of it, `SO…`. */
  operatorSeed: string;
  /** Public key of the account whose users are revoked, `A…`. */
  account: string;
  /** Remembers which entries are its own, so that they can be dropped again. Without, entries stay for ever. */
  ledger?: RevocationLedger | undefined;
  logger: Logger;
}

const REQUEST_TIMEOUT = 5_000;
const ATTEMPTS = 20;
/** Somebody who read the account before us may write it after us; it takes nobody longer than this, in milliseconds. */
const SETTLE_MS = 1_000;

/**
 * Revokes users in the JWT of their account, which a resolver of the servers holds (`resolver: full`). Several may do so
 * at once: each looks again afterwards, and writes until its own entries stay.
 *
 * @param nc connection of a user of the system account
 * @throws {NodeError} NODE_REVOKER_INVALID
 */
export function accountRevoker(nc: NatsConnection, options: AccountRevokerOptions): Revoker {
  return new AccountRevoker(nc, { ...options, operator: operatorKey(options.operatorSeed) });
}

class AccountRevoker implements Revoker {
  readonly #nc: NatsConnection;
  readonly #operator: KeyPair;
  readonly #account: string;
  readonly #ledger: RevocationLedger | undefined;
  readonly #logger: Logger;
  /** Users that are to be revoked, and since when (seconds of the Unix epoch). */
  readonly #wanted = new Map<string, number>();
  #writing: Promise<void> | undefined;

  constructor(nc: NatsConnection, options: AccountRevokerOptions & { operator: KeyPair }) {
    this.#nc = nc;
    this.#operator = options.operator;
    this.#account = options.account;
    this.#ledger = options.ledger;
    this.#logger = options.logger;
  }

  async revoke(userPublicKey: string): Promise<void> {
    this.#wanted.set(userPublicKey, Math.ceil(Date.now() / 1_000));
    while (this.#wanted.has(userPublicKey)) {
      this.#writing ??= this.#write().finally(() => (this.#writing = undefined));
      try {
        await this.#writing;
      } catch (error) {
        // What had begun before this user was wanted says nothing of it.
        if (!this.#wanted.has(userPublicKey)) throw error;
      }
    }
  }

  /** Writes what is wanted by now, in one go. What cannot be written is given up, and told to all that wait for it. */
  async #write(): Promise<void> {
    const batch = new Map(this.#wanted);
    try {
      await this.#ledger?.add([...batch.keys()]);
      const dropped = this.#ledger?.outdated() ?? [];
      await this.#untilIn(batch, dropped);
      await this.#ledger?.remove(dropped);
      setTimeout(() => void this.#lookAgain(batch), SETTLE_MS).unref();
      this.#logger.info({ users: batch.size, account: this.#account }, 'credentials revoked');
    } finally {
      for (const user of batch.keys()) this.#wanted.delete(user);
    }
  }

  /** Revokes again whom somebody else's writing has brought back. */
  async #lookAgain(batch: ReadonlyMap<string, number>): Promise<void> {
    if (this.#nc.isClosed()) return;
    try {
      const missing = missingIn(await this.#lookUp(), batch);
      await Promise.all(missing.map((user) => this.revoke(user)));
    } catch (error) {
      if (!this.#nc.isClosed()) this.#logger.error({ err: error }, 'whether credentials stay revoked cannot be seen');
    }
  }

  async #untilIn(batch: ReadonlyMap<string, number>, dropped: readonly string[]): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const claims = await this.#lookUp();
      if (missingIn(claims, batch).length === 0) return;
      await this.#checkOperator(claims);
      await this.#push(claims, batch, dropped);
      // The others that found their entries missing write too: not all at the same moment.
      if (attempt > 0) await delay(Math.random() * 300, undefined, { ref: false });
    }
    throw failed(`the account "${this.#account}" is written by somebody else all the time`);
  }

  /**
   * The server would take an account of any issuer, and then let none of its users in. So the key must have signed the
   * account before, or belong to an operator that the server trusts.
   */
  async #checkOperator({ iss }: ClaimsData<Account>): Promise<void> {
    const key = this.#operator.getPublicKey();
    if (iss === key || (await this.#trustedKeys()).includes(key)) return;
    throw new NodeError(
      'NODE_REVOCATION_FAILED',
      `Cannot revoke credentials: ${key} is no key of the operator of the account "${this.#account}"`,
      { hint: 'Give the node the seed of the operator, or of one of its signing keys' },
    );
  }

  async #trustedKeys(): Promise<string[]> {
    let varz: { data?: { trusted_operators_jwt?: string[] } };
    try {
      varz = (await this.#nc.request('$SYS.REQ.SERVER.PING.VARZ', '', { timeout: REQUEST_TIMEOUT })).json();
    } catch (cause) {
      throw failed('no server says which operators it trusts', cause);
    }
    return (varz.data?.trusted_operators_jwt ?? []).flatMap((jwt) => {
      const { sub, nats } = decode<Operator>(jwt);
      return [sub, ...(nats.signing_keys ?? []).filter((key) => typeof key === 'string')];
    });
  }

  async #lookUp(): Promise<ClaimsData<Account>> {
    const subject = `$SYS.REQ.ACCOUNT.${this.#account}.CLAIMS.LOOKUP`;
    try {
      const jwt = (await this.#nc.request(subject, '', { timeout: REQUEST_TIMEOUT })).string();
      if (jwt !== '') return decode<Account>(jwt);
    } catch (cause) {
      throw failed(`the account "${this.#account}" cannot be looked up`, cause);
    }
    throw failed(`the servers do not know the account "${this.#account}"`);
  }

  async #push(
    claims: ClaimsData<Account>,
    batch: ReadonlyMap<string, number>,
    dropped: readonly string[],
  ): Promise<void> {
    const kept = Object.entries(claims.nats.revocations ?? {}).filter(([user]) => !dropped.includes(user));
    claims.nats.revocations = Object.fromEntries([...kept, ...batch]);
    const jwt = await encode(Algorithms.v2, claims, this.#operator);
    let reply: { data?: { code?: number }; error?: { description?: string } };
    try {
      reply = (await this.#nc.request('$SYS.REQ.CLAIMS.UPDATE', jwt, { timeout: REQUEST_TIMEOUT })).json();
    } catch (cause) {
      throw failed('no server takes the account', cause);
    }
    if (reply.data?.code !== 200) throw failed(reply.error?.description ?? 'the server does not say why');
  }
}

function missingIn({ nats }: ClaimsData<Account>, batch: ReadonlyMap<string, number>): string[] {
  return [...batch].filter(([user, since]) => (nats.revocations?.[user] ?? 0) < since).map(([user]) => user);
}

function failed(why: string, cause?: unknown): NodeError {
  return new NodeError('NODE_REVOCATION_FAILED', `Cannot revoke credentials: ${why}`, {
    cause,
    hint: 'The servers need a resolver that takes accounts (resolver: full), and the context a user of the system account',
  });
}

function operatorKey(seed: string): KeyPair {
  const refusal = 'Cannot revoke credentials: the seed is not one of an operator (SO…)';
  let key: KeyPair;
  try {
    key = fromSeed(new TextEncoder().encode(seed.trim()));
  } catch (cause) {
    throw new NodeError('NODE_REVOKER_INVALID', refusal, { cause });
  }
  if (key.getPublicKey().startsWith('O')) return key;
  throw new NodeError('NODE_REVOKER_INVALID', refusal);
}
