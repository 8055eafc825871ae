import { createCurve, fromCurveSeed, type KeyPair } from '@nats-io/nkeys';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import { ProtocolError } from '../protocol-error.ts';

/** An environment that only the owner of a curve key can read. Source: Nex 0.4, type `EncEnv`. */
export const EncryptedEnvironment = Type.Object(
  {
    base64_encrypted_env: Type.String({
      description: 'Base64 of the sealed JSON object {NAME: value}: xkv1, 24 bytes of nonce, NaCl box',
    }),
    encrypted_by: Type.String({ description: 'Public curve key of who sealed it, X…' }),
  },
  { additionalProperties: false },
);
export type EncryptedEnvironment = Static<typeof EncryptedEnvironment>;

const Environment = Type.Record(Type.String(), Type.String());

/** A new curve key pair. */
export function createXKey(): KeyPair {
  return createCurve();
}

/**
 * The curve key pair of a seed.
 *
 * @throws {ProtocolError} NEX_SEAL_INVALID when `seed` is none (`SX…`)
 */
export function xkeyOfSeed(seed: string): KeyPair {
  try {
    return fromCurveSeed(new TextEncoder().encode(seed.trim()));
  } catch (cause) {
    throw new ProtocolError('NEX_SEAL_INVALID', 'Cannot use a curve key: it is not the seed of one (SX…)', { cause });
  }
}

/** Seed of a curve key pair, `SX…`. */
export function seedOfXKey(pair: KeyPair): string {
  return new TextDecoder().decode(pair.getSeed());
}

/**
 * Seals an environment so that only the owner of `recipient` can read it.
 *
 * @param recipient public curve key, `X…`
 * @throws {ProtocolError} NEX_SEAL_INVALID when `recipient` is no such key
 */
export function sealEnvironment(
  environment: Readonly<Record<string, string>>,
  { sender, recipient }: { sender: KeyPair; recipient: string },
): EncryptedEnvironment {
  let sealed: Uint8Array;
  try {
    sealed = sender.seal(new TextEncoder().encode(JSON.stringify(environment)), recipient);
  } catch (cause) {
    const message = `Cannot seal an environment for "${recipient}": it is no public curve key (X…)`;
    throw new ProtocolError('NEX_SEAL_INVALID', message, { cause });
  }
  return { base64_encrypted_env: Buffer.from(sealed).toString('base64'), encrypted_by: sender.getPublicKey() };
}

/**
 * Opens what {@link sealEnvironment}, or a peer, sealed for `receiver`. Nothing of its content is in an error.
 *
 * @throws {ProtocolError} NEX_SEAL_INVALID when it is not sealed for that key, or is no environment
 */
export function openEnvironment(
  { base64_encrypted_env: sealed, encrypted_by: sender }: EncryptedEnvironment,
  receiver: KeyPair,
): Record<string, string> {
  const value = openJson(Buffer.from(sealed, 'base64'), sender, receiver);
  if (Value.Check(Environment, value)) return value;
  throw unreadable('what was sealed is no environment');
}

function openJson(sealed: Uint8Array, sender: string, receiver: KeyPair): unknown {
  let opened: Uint8Array | null;
  try {
    opened = receiver.open(sealed, sender);
  } catch {
    opened = null;
  }
  if (opened === null) throw unreadable(`it is not sealed for the key ${receiver.getPublicKey()}`);
  try {
    return JSON.parse(new TextDecoder().decode(opened));
  } catch {
    throw unreadable('what was sealed is not JSON');
  }
}

function unreadable(why: string): ProtocolError {
  return new ProtocolError('NEX_SEAL_INVALID', `Cannot open a sealed environment: ${why}`, {
    hint: 'The key of a nexlet changes when its state folder is lost: start the workload again',
  });
}
