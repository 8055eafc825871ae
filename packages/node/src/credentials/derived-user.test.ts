import { createAccount } from '@nats-io/nkeys';
import { describe, expect, it } from 'vitest';
import { derivedUser } from './derived-user.ts';

const seed = () => new TextDecoder().decode(createAccount().getSeed());
const workload = (id: string) => ({ kind: 'workload', id }) as const;

describe('derivedUser()', () => {
  it('gives a usable user key, always the same', () => {
    const signing = seed();
    const user = derivedUser(signing, workload('w1'));
    const again = derivedUser(signing, workload('w1'));
    expect(user.getPublicKey()).toMatch(/^U[A-Z2-7]{55}$/);
    expect(new TextDecoder().decode(user.getSeed())).toMatch(/^SU[A-Z2-7]{56}$/);
    const nonce = new TextEncoder().encode('nonce');
    expect(again.verify(nonce, user.sign(nonce))).toBe(true);
  });

  it('gives another one for another holder, kind of holder or signing key', () => {
    const signing = seed();
    const keys = [
      derivedUser(signing, workload('a')),
      derivedUser(signing, workload('b')),
      derivedUser(signing, { kind: 'agent', nodeId: 'N1', id: 'a' }),
      derivedUser(signing, { kind: 'agent', nodeId: 'N2', id: 'a' }),
      derivedUser(seed(), workload('a')),
    ].map((user) => user.getPublicKey());
    expect(new Set(keys).size).toBe(5);
  });
});
