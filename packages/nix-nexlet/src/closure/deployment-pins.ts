import { createHash } from 'node:crypto';
import { isNexError } from '@nex-nix/errors';
import type { Logger } from '@nex-nix/nexlet';
import type { StorePath } from '@nex-nix/nix';

/** Where a closure can be kept from being collected under a name: the cache in NATS. */
export interface PinStore {
  /** Pins the path as the newest version of the name; older ones than the last `keep` are let go of. */
  pin(name: string, storePath: StorePath, options: { keep: number; signal: AbortSignal }): Promise<void>;
}

/** Versions of a deployment that stay in the cache: what runs, and what one may want to go back to. */
const VERSIONS_KEPT = 3;

/**
 * Pins in the cache what nodes run: the last versions of each deployment, which is what a namespace has under one name. They
 * stay when it is stopped. A workload does not wait for its pin, and runs without one too.
 */
export class DeploymentPins implements AsyncDisposable {
  readonly #store: PinStore | undefined;
  readonly #logger: Logger;
  readonly #closing = new AbortController();
  readonly #underWay = new Set<Promise<void>>();

  constructor(store: PinStore | undefined, logger: Logger) {
    this.#store = store;
    this.#logger = logger;
  }

  /** Begins to pin; what comes in the way is logged. */
  keep(deployment: { namespace: string; name: string }, storePath: StorePath): void {
    if (this.#store === undefined) return;
    const pinning = this.#pin(this.#store, deploymentPinName(deployment), storePath).finally(() =>
      this.#underWay.delete(pinning),
    );
    this.#underWay.add(pinning);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#underWay);
  }

  /** Never rejects. */
  async #pin(store: PinStore, name: string, storePath: StorePath): Promise<void> {
    try {
      await store.pin(name, storePath, { keep: VERSIONS_KEPT, signal: this.#closing.signal });
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      const why = `what runs is not pinned in the cache as "${name}", it may be collected there`;
      if (isNexError(error)) this.#logger.warn({ storePath, code: error.code }, `${why}: ${error.message}`);
      else this.#logger.error({ storePath, err: error }, why);
    }
  }
}

/** The longest name that a pin may have. */
const NAME_MAX = 200;

/**
 * `deployment.<namespace>.<name>`; bytes of the two that are no letter, digit or `-` as `_` and two hexadecimal digits.
 * `deployment.<SHA-256 of that>` when it would be too long.
 */
export function deploymentPinName({ namespace, name }: { namespace: string; name: string }): string {
  const pin = ['deployment', namespace, name].map(encodeToken).join('.');
  return pin.length <= NAME_MAX ? pin : `deployment.${createHash('sha256').update(pin).digest('hex')}`;
}

function encodeToken(text: string): string {
  return [...Buffer.from(text)]
    .map((byte) => String.fromCharCode(byte))
    .map((char) => (/[A-Za-z0-9-]/.test(char) ? char : `_${char.charCodeAt(0).toString(16).padStart(2, '0')}`))
    .join('');
}
