import { fromSeed } from '@nats-io/nkeys';
import { NodeError } from '../node-error.ts';
import { accessData, type Minter, type ServerAccess } from './minter.ts';

export interface NkeyMinterOptions extends ServerAccess {
  /** Public key of the user, `U…`. */
  readonly nkey: string;
  /** Its seed, `SU…`. */
  readonly seed: string;
}

/**
 * Hands the same NATS user to every nexlet and every workload: whatever that user may do, all of them may do. It does
 * not expire and cannot be revoked.
 *
 * @throws {NodeError} NODE_MINTER_INVALID
 */
export function nkeyMinter({ nkey, seed, ...access }: NkeyMinterOptions): Minter {
  checkPair(nkey, seed);
  const data = async () => accessData(access, { nats_user_nkey: nkey, nats_user_seed: seed });
  return { registration: data, agent: data, workload: data };
}

function checkPair(nkey: string, seed: string): void {
  let owner: string;
  try {
    owner = fromSeed(new TextEncoder().encode(seed)).getPublicKey();
  } catch (cause) {
    const message = 'Cannot hand out the nkey: its seed is not one of a user (SU…)';
    throw new NodeError('NODE_MINTER_INVALID', message, { cause });
  }
  if (owner === nkey && owner.startsWith('U')) return;
  throw new NodeError('NODE_MINTER_INVALID', `Cannot hand out the nkey "${nkey}": the seed is not that of this user`, {
    hint: 'The key is the public one of a user (U…), the seed is its private one (SU…)',
  });
}
