import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { encodeAccount, encodeOperator, encodeUser, type User } from '@nats-io/jwt';
import { jwtAuthenticator, type NatsConnection, PermissionViolationError } from '@nats-io/nats-core';
import { createAccount, createOperator, createUser, type KeyPair } from '@nats-io/nkeys';
import { startNatsServer, type TempDir, tempDir, type TestNatsServer } from '@nex-nix/test-kit';
import { expect } from 'vitest';

const UNLIMITED = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };

export const seedOf = (pair: KeyPair): string => new TextDecoder().decode(pair.getSeed());

/** A nats-server in operator mode whose resolver takes accounts, with one account that has a signing key. */
export class OperatorBed implements AsyncDisposable {
  readonly operator = createOperator();
  readonly operatorSigningKey = createOperator();
  readonly system = createAccount();
  readonly account = createAccount();
  readonly signingKey = createAccount();
  readonly #stack = new AsyncDisposableStack();
  #server: TestNatsServer | undefined;
  #dir: TempDir | undefined;

  static async start(): Promise<OperatorBed> {
    const bed = new OperatorBed();
    bed.#dir = bed.#stack.use(await tempDir());
    bed.#server = bed.#stack.use(await startNatsServer({ jetstream: false, config: await bed.#config() }));
    return bed;
  }

  get server(): TestNatsServer {
    if (this.#server === undefined) throw new Error('not started');
    return this.#server;
  }

  get dir(): TempDir {
    if (this.#dir === undefined) throw new Error('not started');
    return this.#dir;
  }

  /** What every minter with the account's signing key is given. */
  get minting() {
    return { servers: [this.server.url], seed: seedOf(this.signingKey), rootAccount: this.account.getPublicKey() };
  }

  /** A connection as a user of the account who may do everything, unless `permissions` say otherwise. */
  async connect(permissions: Partial<User> = {}): Promise<NatsConnection> {
    const user = createUser();
    const jwt = await encodeUser('owner', user, this.account, permissions, { signer: this.signingKey });
    return this.server.connect({ authenticator: jwtAuthenticator(jwt, user.getSeed()) });
  }

  async connectSystem(): Promise<NatsConnection> {
    const user = createUser();
    const jwt = await encodeUser('sys', user, this.system);
    return this.server.connect({ authenticator: jwtAuthenticator(jwt, user.getSeed()) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  async #config(): Promise<string> {
    const [system, account] = [this.system.getPublicKey(), this.account.getPublicKey()];
    const operatorJwt = await encodeOperator('OP', this.operator, {
      system_account: system,
      signing_keys: [this.operatorSigningKey.getPublicKey()],
    });
    const signer = this.operator;
    const systemJwt = await encodeAccount('SYS', this.system, { limits: UNLIMITED }, { signer });
    const grants = { limits: UNLIMITED, signing_keys: [this.signingKey.getPublicKey()] };
    const accountJwt = await encodeAccount('A', this.account, grants, { signer });
    return [
      `operator: ${operatorJwt}`,
      `system_account: ${system}`,
      `resolver { type: full, dir: ${JSON.stringify(join(this.dir.path, 'jwt'))}, interval: "2m" }`,
      `resolver_preload { ${system}: ${systemJwt}, ${account}: ${accountJwt} }`,
    ].join('\n');
  }
}

/** Whether the server lets a user publish or subscribe: what it denies, it says before it answers a ping. */
async function allowed(nc: NatsConnection, action: () => void): Promise<boolean> {
  const statuses = nc.status()[Symbol.asyncIterator]();
  action();
  await nc.flush();
  const status = await Promise.race([statuses.next(), turn(undefined)]);
  if (status?.value?.type !== 'error') return true;
  expect(status.value.error).toBeInstanceOf(PermissionViolationError);
  return false;
}

export const canPublish = (nc: NatsConnection, subject: string): Promise<boolean> =>
  allowed(nc, () => nc.publish(subject, '{}'));

export const canSubscribe = (nc: NatsConnection, subject: string): Promise<boolean> =>
  allowed(nc, () => void nc.subscribe(subject, { callback: () => undefined }));

/** Which of the subjects a user may not publish or subscribe to. */
export async function denied(
  nc: NatsConnection,
  how: 'publish' | 'subscribe',
  subjects: readonly string[],
): Promise<string[]> {
  const refused: string[] = [];
  const may = how === 'publish' ? canPublish : canSubscribe;
  for (const subject of subjects) if (!(await may(nc, subject))) refused.push(subject);
  return refused;
}
