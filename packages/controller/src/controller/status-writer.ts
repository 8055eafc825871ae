import type { DeploymentStatus, DeploymentStatusSchema } from '../deployments/status.ts';
import type { Term } from '../lease/term.ts';
import type { Entry, JsonBucket } from '../store/json-bucket.ts';

/**
 * Writes the status of one deployment when it changes, one write after the other. A status of another term that is newer
 * than what was read ends this term: somebody else acts.
 */
export class StatusWriter {
  readonly #bucket: JsonBucket<typeof DeploymentStatusSchema>;
  readonly #key: string;
  readonly #term: Term;
  #revision: number;
  #written: string | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(
    bucket: JsonBucket<typeof DeploymentStatusSchema>,
    { key, term, found }: { key: string; term: Term; found: Entry<DeploymentStatus> | undefined },
  ) {
    this.#bucket = bucket;
    this.#key = key;
    this.#term = term;
    this.#revision = found?.revision ?? 0;
  }

  /** Resolves when what `describe` says, asked when its turn comes, is stored. */
  write(describe: () => Omit<DeploymentStatus, 'updated'>): Promise<void> {
    const write = this.#writing.then(() => this.#write(describe()));
    // The next write does not depend on how this one went.
    this.#writing = write.catch(() => undefined);
    return write;
  }

  async #write(status: Omit<DeploymentStatus, 'updated'>): Promise<void> {
    const text = JSON.stringify(status);
    if (text === this.#written) return;
    for (;;) {
      this.#term.check();
      const value = { ...status, updated: new Date().toISOString() };
      const revision = await this.#bucket.set(this.#key, value, this.#revision);
      if (revision !== undefined) {
        this.#revision = revision;
        this.#written = text;
        return;
      }
      const found = await this.#bucket.get(this.#key);
      // Lost with its bucket, or a write of this term whose answer was lost: goes on from there.
      if (found !== undefined && found.value.term !== this.#term.id) this.#term.end('another controller acts');
      this.#revision = found?.revision ?? 0;
    }
  }
}
