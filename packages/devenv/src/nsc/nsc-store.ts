import { join } from 'node:path';
import { type ClaimsData, decode } from '@nats-io/jwt';
import { fromSeed, type KeyPair } from '@nats-io/nkeys';
import { DevError } from '../dev-error.ts';
import { findNscPlace, type NscPlace } from './nsc-place.ts';
import { foldersIn, readIfPresent, writePrivateFile } from '../write-file.ts';

/** A JWT of the store together with what it says. */
export interface StoredJwt<T> {
  jwt: string;
  claims: ClaimsData<T>;
}

/**
 * Keys, JWTs and creds of one operator, laid out as nsc v2 does, so that nsc works on them, and on ours what nsc has made. Files are 0600,
 * folders 0700.
 */
export class NscStore {
  /** Folder that `nsc.json` lies in, which `NSC_HOME` names. */
  readonly root: string;
  readonly operator: string;
  /** Folder of `keys` and `creds`, which `NKEYS_PATH` names. */
  readonly keystore: string;
  readonly #place: NscPlace;

  private constructor(place: NscPlace) {
    this.#place = place;
    this.root = place.config;
    this.keystore = place.keystore;
    this.operator = place.operator;
  }

  /**
   * The store in a folder: that of nsc, or a new one. Nothing is written.
   *
   * @param operator Name of an operator that is to be made; one that is there wins.
   * @throws {DevError} DEVENV_STORE_INVALID
   */
  static async open(root: string, operator: string): Promise<NscStore> {
    return new NscStore(await findNscPlace(root, operator));
  }

  /** Writes what makes nsc recognise the folder; `account` is the one that its commands take when none was chosen. */
  async writeMarkers(account: string): Promise<void> {
    const { stores, keystore, operator } = this.#place;
    const marker = { managed: false, name: operator, kind: 'operator', version: '1' };
    await this.#writeIfAbsent(join(stores, operator, '.nsc'), JSON.stringify(marker));
    await this.#writeIfAbsent(
      join(keystore, '.gitignore'),
      '# ignore all nk files\n**/*.nk\n\n# ignore all creds files\n**/*.creds\n',
    );
    const settingsFile = join(this.root, 'nsc.json');
    const present = await this.#settings(settingsFile);
    const begun = { github_updates: 'nats-io/nsc', last_update: Math.floor(Date.now() / 1000) };
    // Of a data folder that was moved it names the old place. What somebody works on stays chosen.
    const wanted: Record<string, unknown> = { ...(present ?? begun), store_root: stores };
    if (isUnset(wanted['operator'])) wanted['operator'] = operator;
    if (isUnset(wanted['account']) && wanted['operator'] === operator) wanted['account'] = account;
    const differs = Object.entries(wanted).some(([name, value]) => present?.[name] !== value);
    if (differs) await writePrivateFile(settingsFile, JSON.stringify(wanted));
  }

  get operatorFile(): string {
    return join(this.#folder, `${this.operator}.jwt`);
  }

  /** Names of all accounts. */
  async accounts(): Promise<string[]> {
    return foldersIn(join(this.#folder, 'accounts'));
  }

  accountFile(account: string): string {
    return join(this.#folder, 'accounts', account, `${account}.jwt`);
  }

  userFile(account: string, user: string): string {
    return join(this.#folder, 'accounts', account, 'users', `${user}.jwt`);
  }

  credsFile(account: string, user: string): string {
    return join(this.keystore, 'creds', this.operator, account, `${user}.creds`);
  }

  /** Where the seed of a public key lies. */
  keyFile(publicKey: string): string {
    return join(this.keystore, 'keys', publicKey.slice(0, 1), publicKey.slice(1, 3), `${publicKey}.nk`);
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
    if (key !== undefined) return key;
    const why = `the key of ${owner} is missing at ${this.keyFile(publicKey)}`;
    throw this.unusable(
      why,
      `Put it there. Keys that nsc keeps in its old layout are moved by: ${this.command('keys migrate')}`,
    );
  }

  async writeKey(key: KeyPair): Promise<void> {
    await writePrivateFile(this.keyFile(key.getPublicKey()), key.getSeed());
  }

  /** Command line that has nsc do something to this store. */
  command(what: string): string {
    const { config, stores, keystore } = this.#place;
    const places =
      stores === config ? `-H ${config}` : `--config-dir ${config} --data-dir ${stores} --keystore-dir ${keystore}`;
    return `nsc ${places} ${what}`;
  }

  /** Something that was written is not what it was. */
  damaged(why: string, cause?: unknown): DevError {
    const hint = `Restore the file, or begin anew: stop the dev services, then rm -r ${this.root}`;
    return this.unusable(why, hint, cause);
  }

  /** The store is not damaged, and cannot be used as it is. */
  unusable(why: string, hint: string, cause?: unknown): DevError {
    return new DevError('DEVENV_STORE_INVALID', `Cannot use the keys in "${this.root}": ${why}`, { hint, cause });
  }

  get #folder(): string {
    return join(this.#place.stores, this.operator);
  }

  async #settings(file: string): Promise<Record<string, unknown> | undefined> {
    const text = await readIfPresent(file);
    if (text === undefined) return undefined;
    try {
      return JSON.parse(text) as Record<string, unknown>;
    } catch (cause) {
      throw this.damaged(`${file} is no JSON`, cause);
    }
  }

  async #writeIfAbsent(file: string, content: string): Promise<void> {
    if ((await readIfPresent(file)) === undefined) await writePrivateFile(file, content);
  }
}

function isUnset(value: unknown): boolean {
  return typeof value !== 'string' || value === '';
}
