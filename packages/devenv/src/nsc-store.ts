import { join } from 'node:path';
import { type ClaimsData, decode } from '@nats-io/jwt';
import { fromSeed, type KeyPair } from '@nats-io/nkeys';
import { DevError } from './dev-error.ts';
import { readIfPresent, writePrivateFile } from './write-file.ts';

/** A JWT of the store together with what it says. */
export interface StoredJwt<T> {
  jwt: string;
  claims: ClaimsData<T>;
}

/**
 * Keys, JWTs and creds of one operator, laid out as `nsc --all-dirs <root>` does (nsc v2), so that nsc works on them:
 * `<root>/nsc.json`, `<root>/<operator>/…`, `<root>/keys/…`, `<root>/creds/<operator>/…`. Files are 0600, folders 0700.
 */
export class NscStore {
  readonly root: string;
  readonly operator: string;

  constructor(root: string, operator: string) {
    this.root = root;
    this.operator = operator;
  }

  /** Writes what makes nsc recognise the folder; `account` is the one that its commands take by default. */
  async writeMarkers(account: string): Promise<void> {
    const settings = {
      store_root: this.root,
      operator: this.operator,
      account,
      github_updates: 'nats-io/nsc',
      last_update: Math.floor(Date.now() / 1000),
    };
    const marker = { managed: false, name: this.operator, kind: 'operator', version: '1' };
    await this.#writeIfAbsent(join(this.root, this.operator, '.nsc'), JSON.stringify(marker));
    await this.#writeIfAbsent(
      join(this.root, '.gitignore'),
      '# ignore all nk files\n**/*.nk\n\n# ignore all creds files\n**/*.creds\n',
    );
    const settingsFile = join(this.root, 'nsc.json');
    const present = await readIfPresent(settingsFile);
    // A data folder that was moved: nsc would look for the store at its old place.
    if (present === undefined || !present.includes(JSON.stringify(this.root))) {
      await writePrivateFile(settingsFile, JSON.stringify(settings));
    }
  }

  get operatorFile(): string {
    return join(this.root, this.operator, `${this.operator}.jwt`);
  }

  accountFile(account: string): string {
    return join(this.root, this.operator, 'accounts', account, `${account}.jwt`);
  }

  userFile(account: string, user: string): string {
    return join(this.root, this.operator, 'accounts', account, 'users', `${user}.jwt`);
  }

  credsFile(account: string, user: string): string {
    return join(this.root, 'creds', this.operator, account, `${user}.creds`);
  }

  /** Where the seed of a public key lies. */
  keyFile(publicKey: string): string {
    return join(this.root, 'keys', publicKey.slice(0, 1), publicKey.slice(1, 3), `${publicKey}.nk`);
  }

  /** A JWT of the store whose signature is good, or undefined when there is none. */
  async readJwt<T>(file: string): Promise<StoredJwt<T> | undefined> {
    const jwt = (await readIfPresent(file))?.trim();
    if (jwt === undefined) return undefined;
    try {
      return { jwt, claims: decode<T>(jwt) };
    } catch (cause) {
      throw this.damaged(`the JWT in ${file} is damaged`, cause);
    }
  }

  async readKey(publicKey: string): Promise<KeyPair | undefined> {
    const file = this.keyFile(publicKey);
    const seed = (await readIfPresent(file))?.trim();
    if (seed === undefined) return undefined;
    try {
      const key = fromSeed(new TextEncoder().encode(seed));
      if (key.getPublicKey() === publicKey) return key;
    } catch (cause) {
      throw this.damaged(`the seed in ${file} is damaged`, cause);
    }
    throw this.damaged(`the seed in ${file} belongs to another key`);
  }

  /** Like {@link readKey}, but the key must be there. `owner` says whose it is. */
  async needKey(publicKey: string, owner: string): Promise<KeyPair> {
    const key = await this.readKey(publicKey);
    if (key === undefined) throw this.damaged(`the key of ${owner} is missing at ${this.keyFile(publicKey)}`);
    return key;
  }

  async writeKey(key: KeyPair): Promise<void> {
    await writePrivateFile(this.keyFile(key.getPublicKey()), key.getSeed());
  }

  damaged(why: string, cause?: unknown): DevError {
    return new DevError('DEVENV_STORE_INVALID', `Cannot use the keys in "${this.root}": ${why}`, {
      hint: `Restore the file, or begin anew: stop the dev services, then rm -r ${this.root}`,
      cause,
    });
  }

  async #writeIfAbsent(file: string, content: string): Promise<void> {
    if ((await readIfPresent(file)) === undefined) await writePrivateFile(file, content);
  }
}
