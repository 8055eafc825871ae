import type { PublicKey, SecretKey } from '@nex-nix/nix';
import type { JetStream } from '../jetstream/jetstream.ts';
import type { Semaphore } from '../tasks/semaphore.ts';
import type { IndexStore } from './index-store.ts';
import type { PresenceSet } from './presence-set.ts';

/** What the parts of one service share. */
export interface ServiceContext {
  readonly jetstream: JetStream;
  readonly index: IndexStore;
  readonly presence: PresenceSet;
  readonly secretKey: SecretKey;
  readonly publicKey: PublicKey;
  /** Bytes of chunks that are being verified. */
  readonly verifying: Semaphore;
}
