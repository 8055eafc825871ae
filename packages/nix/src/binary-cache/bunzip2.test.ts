import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { describeWith, findTool } from '@nex-nix/test-kit';
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { bunzip2 } from './bunzip2.ts';

function bzip2(content: Uint8Array, level = 9): Buffer {
  return execFileSync(findTool('bzip2') ?? '', [`-${level}`], { input: content, maxBuffer: 1e9 });
}

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array, void> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function undo(bytes: Uint8Array, size = 65_536): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(bunzip2(pieces(bytes, size))));
}

describeWith(['bzip2'], 'bunzip2()', () => {
  const text = Buffer.from('some text here, some more text; '.repeat(300));

  it('undoes what bzip2 made of anything, however it is cut', async () => {
    const runs = fc
      .array(fc.tuple(fc.nat(600), fc.nat(3)), { maxLength: 40 })
      .map((parts) => Buffer.concat(parts.map(([length, byte]) => Buffer.alloc(length, byte))));
    const content = fc.oneof(runs, fc.uint8Array({ maxLength: 3000 }));
    await fc.assert(
      fc.asyncProperty(content, fc.integer({ min: 1, max: 100 }), async (bytes, size) => {
        expect((await undo(bzip2(bytes), size)).equals(bytes)).toBe(true);
      }),
      { numRuns: 40 },
    );
  });

  it('reads several blocks, and several streams of different levels', async () => {
    const content = Buffer.concat([randomBytes(150_000), Buffer.alloc(300_000, 'abc'), Buffer.alloc(5_000_000)]);
    const streams = Buffer.concat([bzip2(content, 1), bzip2(Buffer.alloc(0)), bzip2(text, 5)]);
    expect((await undo(streams)).equals(Buffer.concat([content, text]))).toBe(true);
  });

  it('refuses every truncation, and gives back nothing else for any changed bit', async () => {
    const whole = bzip2(text);
    for (let at = 0; at < whole.length; at++) {
      await expect(undo(whole.subarray(0, at))).rejects.toThrow('it ends in the middle of a stream');
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
      // A few bits say nothing of the content.
      const outcome = await undo(changed).catch((error: unknown) => error);
      if (Buffer.isBuffer(outcome)) expect(outcome.equals(text)).toBe(true);
      else expect((outcome as Error).constructor.name).toBe('Bzip2Error');
    }
  });

  it('refuses what follows a stream and is none', async () => {
    await expect(undo(Buffer.concat([bzip2(text), Buffer.from('rest')]))).rejects.toThrow('it is not bzip2');
  });

  it('refuses a run length that overflows', async () => {
    await expect(undo(endlessRun())).rejects.toThrow('a block is larger than its stream allows');
  });

  it('undoes a bomb piece by piece', async () => {
    const bomb = bzip2(Buffer.alloc(45_000_000));
    expect(bomb.length).toBeLessThan(100);
    for await (const chunk of bunzip2(pieces(bomb, 10))) {
      expect(chunk.length).toBeLessThanOrEqual(256 * 1024);
      break;
    }
  });
});

/** A block of one symbol whose run length has forty digits, more than 32 bits can hold. */
function endlessRun(): Buffer {
  const code = (lengths: string) => `00001${lengths}`;
  const bits = [Buffer.from('BZh9'), Buffer.from('314159265359', 'hex'), Buffer.alloc(4)].map((bytes) =>
    [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join(''),
  );
  bits.push('0', '0'.repeat(24), '1000000000000000', '1000000000000000');
  // Two codes, one selector (the first code); three symbols each, of lengths 1, 2 and 2.
  bits.push('010', '000000000000001', '0', code('01000'), code('01000'));
  bits.push('0'.repeat(40), '11', '0'.repeat(64));
  const text = bits.join('');
  return Buffer.from((text.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)));
}
