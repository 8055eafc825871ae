import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { newId } from '@nex-nix/protocol';

/**
 * Which revocations a node has written, and when. An entry of an account may be dropped when the credentials that it
 * takes back have expired; but only of its own entries a node knows when that is.
 */
export class RevocationLedger {
  readonly #file: string;
  readonly #longestTtl: number;
  readonly #since: Map<string, number>;

  private constructor(file: string, longestTtl: number, since: Map<string, number>) {
    this.#file = file;
    this.#longestTtl = longestTtl;
    this.#since = since;
  }

  /**
   * @param file one JSON object, public key to milliseconds of the Unix epoch; made when there is none
   * @param longestTtl how long any credential of this node holds, in milliseconds
   */
  static async open(file: string, longestTtl: number): Promise<RevocationLedger> {
    return new RevocationLedger(file, longestTtl, new Map(Object.entries(await readLedger(file))));
  }

  /** Public keys whose credentials have all expired by now. */
  outdated(now = Date.now()): string[] {
    return [...this.#since].filter(([, since]) => now - since > this.#longestTtl).map(([user]) => user);
  }

  async add(users: readonly string[]): Promise<void> {
    for (const user of users) this.#since.set(user, Date.now());
    await this.#save();
  }

  async remove(users: readonly string[]): Promise<void> {
    if (users.length === 0) return;
    for (const user of users) this.#since.delete(user);
    await this.#save();
  }

  async #save(): Promise<void> {
    await mkdir(dirname(this.#file), { recursive: true });
    const draft = `${this.#file}.${newId()}`;
    await writeFile(draft, JSON.stringify(Object.fromEntries(this.#since)), { mode: 0o600 });
    await rename(draft, this.#file);
  }
}

/** A damaged ledger is as good as none: its entries then stay in the account. */
async function readLedger(file: string): Promise<Record<string, number>> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
  if (typeof parsed !== 'object' || parsed === null) return {};
  return Object.fromEntries(
    Object.entries(parsed).filter((entry): entry is [string, number] => Number.isFinite(entry[1])),
  );
}
