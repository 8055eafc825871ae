import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type NarEvent, narHashOf, readNar } from '../index.ts';
import { cut, entry, file, folder, link, nar, nested } from '../../test/nar-strings.ts';

async function read(bytes: Uint8Array, size?: number, maxSize?: number): Promise<NarEvent[]> {
  return Array.fromAsync(readNar(cut(bytes, size), { maxSize }));
}

describe('readNar()', () => {
  it.each([
    ['an empty file', nar(...file('')), 112, '0ip26j2h11n1kgkz36rl4akv694yz65hr72q4kv4b3lxcbi65b3p'],
    ['an empty folder', nar(...folder()), 96, '0sjjj9z1dhilhpc8pq4154czrb79z9cm044jvn75kxcjv6v5l2m5'],
    ['a link', nar(...link('tgt')), 120, '0k3iirpcw0cyy77yp2z3s2lcy2xv7azh1spg9kcnn4qdsb52mq8p'],
    [
      'a program',
      nar('(', 'type', 'regular', 'executable', '', 'contents', 'x', ')'),
      152,
      '1qf3k50cfba7m69yyp7n3dj4g3ckiyyaq16qw6nyh4vrpn97nyzh',
    ],
  ])('reads the golden vector of %s', async (_, bytes, size, hash) => {
    expect(bytes).toHaveLength(size);
    expect(narHashOf(createHash('sha256').update(bytes).digest())).toBe(`sha256:${hash}`);
    expect((await read(bytes)).length).toBeGreaterThan(0);
  });

  it('tells the same however the bytes are cut', async () => {
    const long = Buffer.alloc(300, 'contents ');
    const bytes = nar(
      ...folder(
        entry('a', file(long)),
        entry('b', folder(entry('l', link('../a')))),
        entry(Buffer.from([0xff, 0x0a]), file('x')),
      ),
    );
    const whole = await read(bytes);
    expect(whole.map(({ type }) => type)).toEqual(
      'directory file data file-end directory symlink directory-end file data file-end directory-end'.split(' '),
    );
    const [, first] = whole;
    expect(first).toMatchObject({ type: 'file', name: Buffer.from('a'), executable: false, size: 300 });
    expect(first?.type === 'file' && bytes.subarray(first.offset, first.offset + first.size)).toEqual(long);
    const flat = (events: NarEvent[]) => ({
      structure: events.filter(({ type }) => type !== 'data'),
      data: Buffer.concat(events.map((event) => (event.type === 'data' ? event.bytes : Buffer.alloc(0)))),
    });
    for (const size of [1, 2, 7, 8, 9, 64, 1000]) expect(flat(await read(bytes, size))).toEqual(flat(whole));
  });

  it('accepts what is unusual but right', async () => {
    const names = ['\n', 'x'.repeat(255), Buffer.from([0xf0, 0x9f]), Buffer.from([0xff])];
    await read(nar(...folder(...names.map((name) => entry(name, file(''))))));
    await read(nar(...folder(entry('a', file('')), entry('a.', file('')), entry('a~nix~case~hack~1', file('')))));
    await read(nar(...link('x'.repeat(4095))));
    await read(nar(...nested(63)));
    // Byte order, where UTF-16 order would be the other way round.
    await read(nar(...folder(entry('\uFFEE', file('')), entry('\u{1F600}', file('')))));
  });

  const ok = nar(...folder(entry('a', file('12345'))));
  it('refuses a NAR cut off anywhere', async () => {
    for (let length = 0; length < ok.length; length++) {
      await expect(read(ok.subarray(0, length))).rejects.toMatchObject({
        code: 'NIX_NAR_INVALID',
        offset: expect.any(Number),
      });
    }
  });

  it('refuses any NAR with one byte changed, or reads it as another one', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(ok.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
        const bytes = Buffer.from(ok);
        bytes[at] = (bytes[at] ?? 0) ^ change;
        try {
          expect(await read(bytes)).not.toEqual(await read(ok));
        } catch (error) {
          expect(error).toMatchObject({ code: 'NIX_NAR_INVALID' });
        }
      }),
    );
  });

  it('refuses more than it was told to expect, before reading it', async () => {
    const size = { code: 'NIX_NAR_SIZE_MISMATCH' };
    await expect(read(ok, undefined, ok.length - 1)).rejects.toMatchObject(size);
    expect(await read(ok, undefined, ok.length)).not.toHaveLength(0);
    const claims = Buffer.concat([nar('(', 'type', 'regular', 'contents'), Buffer.from([0, 0, 0, 0, 1, 0, 0, 0])]);
    await expect(read(claims, undefined, 1000)).rejects.toMatchObject(size);
  });

  it('says what it read, where and why it was wrong', async () => {
    await expect(read(nar('(', 'type', 'device', ')'))).rejects.toMatchObject({
      offset: 56,
      message: 'Cannot read the NAR of "NAR": at byte 56, found "device", expected "regular", "symlink" or "directory"',
    });
  });

  it('stops waiting when it is told to', async () => {
    const stuck = async function* (): AsyncGenerator<Uint8Array, void> {
      yield ok.subarray(0, 8);
      await new Promise(() => undefined);
    };
    const controller = new AbortController();
    const reading = Array.fromAsync(readNar(stuck(), { signal: controller.signal }));
    controller.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
  });
});
