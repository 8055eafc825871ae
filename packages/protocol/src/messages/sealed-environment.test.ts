import { assert, dictionary, property, string, uint8Array } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ProtocolError } from '../protocol-error.ts';
import { createXKey, openEnvironment, sealEnvironment, seedOfXKey, xkeyOfSeed } from './sealed-environment.ts';

const sender = createXKey();
const receiver = createXKey();
const recipient = receiver.getPublicKey();

/** What an error may tell of itself. */
const told = (action: () => unknown): string => {
  try {
    action();
  } catch (error) {
    return `${(error as Error).message} ${JSON.stringify(error)}`;
  }
  throw new Error('it does not fail');
};

describe('sealed environments', () => {
  it('are opened by their receiver, and by nobody else', () => {
    assert(
      property(dictionary(string(), string()), (environment) => {
        const sealed = sealEnvironment(environment, { sender, recipient });
        expect(openEnvironment(sealed, receiver)).toEqual(environment);
        expect(() => openEnvironment(sealed, createXKey())).toThrow('it is not sealed for the key X');
      }),
      { numRuns: 30 },
    );
  });

  it('have the form of Nex: base64 of xkv1, nonce and box, and who sealed it', () => {
    const sealed = sealEnvironment({ A: 'b' }, { sender, recipient });
    expect(sealed.encrypted_by).toBe(sender.getPublicKey());
    const bytes = Buffer.from(sealed.base64_encrypted_env, 'base64');
    expect(bytes.subarray(0, 4).toString()).toBe('xkv1');
    // Nonce of 24 bytes, authenticator of 16.
    expect(bytes.length).toBe(4 + 24 + 16 + '{"A":"b"}'.length);
  });

  it('are refused when they are damaged, whatever comes, with nothing of their content in the error', () => {
    const seal = (text: string) => {
      const data = sender.seal(new TextEncoder().encode(text), recipient);
      return { base64_encrypted_env: Buffer.from(data).toString('base64'), encrypted_by: sender.getPublicKey() };
    };
    for (const content of ['hush', '["hush"]', '{"A":["hush"]}', 'null']) {
      const text = told(() => openEnvironment(seal(content), receiver));
      expect(text).toContain('NEX_SEAL_INVALID');
      expect(text).not.toContain('hush');
    }
    assert(
      property(uint8Array(), string(), (data, by) => {
        const sealed = { base64_encrypted_env: Buffer.from(data).toString('base64'), encrypted_by: by };
        expect(() => openEnvironment(sealed, receiver)).toThrow(ProtocolError);
      }),
    );
  });

  it('need curve keys', () => {
    expect(xkeyOfSeed(` ${seedOfXKey(sender)}\n`).getPublicKey()).toBe(sender.getPublicKey());
    expect(() => xkeyOfSeed('SUANOTHING')).toThrow(expect.objectContaining({ code: 'NEX_SEAL_INVALID' }));
    expect(() => sealEnvironment({}, { sender, recipient: 'UABC' })).toThrow('it is no public curve key');
  });
});
