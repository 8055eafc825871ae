import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type NarEvent, narHashOf, readNar } from '../index.ts';
import { narStrings } from './nar-format.ts';

/** A NAR spelled out string by string. */
const nar = (...strings: (string | Uint8Array)[]) => narStrings('nix-archive-1', ...strings);
const file = (contents: string | Uint8Array) => ['(', 'type', 'regular', 'contents', contents, ')'];
const link = (target: string | Uint8Array) => ['(', 'type', 'symlink', 'target', target, ')'];
const entry = (name: string | Uint8Array, node: (string | Uint8Array)[]) => [
  'entry',
  '(',
  'name',
  name,
  'node',
  ...node,
  ')',
];
const folder = (...entries: (string | Uint8Array)[][]) => ['(', 'type', 'directory', ...entries.flat(), ')'];
const nested = (levels: number): string[] =>
  levels === 0 ? (file('') as string[]) : (folder(entry('d', nested(levels - 1))) as string[]);

async function* cut(bytes: Uint8Array, size = bytes.length): AsyncGenerator<Uint8Array, void> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

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
  const huge = Buffer.from([0, 0, 0, 0, 0, 1, 0, 0]);
  it.each<[string, Uint8Array, string]>([
    ['another magic', narStrings('nix-archive-2', ...file('')), 'expected "nix-archive-1"'],
    ['nothing', Buffer.alloc(0), 'it ends here'],
    ['a second root', Buffer.concat([nar(...file('')), nar(...file(''))]), 'more bytes follow the end'],
    ['zeros at the end', Buffer.concat([ok, Buffer.alloc(8)]), 'more bytes follow the end'],
    [
      'an entry out of order',
      nar(...folder(entry('b', file('')), entry('a', file('')))),
      'the name "a" comes after "b"',
    ],
    ['a longer name first', nar(...folder(entry('ab', file('')), entry('a', file('')))), 'comes after'],
    ['UTF-16 order', nar(...folder(entry('\u{1F600}', file('')), entry('\uFFEE', file('')))), 'comes after'],
    ['a file twice', nar(...folder(entry('a', file('')), entry('a', file('')))), 'appears twice'],
    ['a folder twice', nar(...folder(entry('a', folder()), entry('a', folder()))), 'appears twice'],
    [
      'a folder over a link',
      nar(...folder(entry('a', link('/etc')), entry('a', folder(entry('x', file('')))))),
      'appears twice',
    ],
    ['a file over a link', nar(...folder(entry('a', link('/etc/passwd')), entry('a', file('')))), 'appears twice'],
    ['the name ..', nar(...folder(entry('..', file('')))), 'is "." or ".."'],
    ['the name .', nar(...folder(entry('.', file('')))), 'is "." or ".."'],
    ['an empty name', nar(...folder(entry('', file('')))), 'is empty'],
    ['a slash in a name', nar(...folder(entry('a/b', file('')))), 'contains "/"'],
    ['NUL in a name', nar(...folder(entry('a\0b', file('')))), 'contains a NUL'],
    ['a name of 256 bytes', nar(...folder(entry('x'.repeat(256), file('')))), 'a string is longer than 255 bytes'],
    ['an empty target', nar(...link('')), 'is empty'],
    ['NUL in a target', nar(...link('a\0b')), 'contains a NUL'],
    ['a target of 4096 bytes', nar(...link('x'.repeat(4096))), 'a string is longer than 4095 bytes'],
    ['a tag of 33 bytes', nar('('.repeat(33)), 'a string is longer than 32 bytes'],
    ['a tag of impossible length', Buffer.concat([nar(), huge]), 'a string is longer than 32 bytes'],
    [
      'a file of impossible length',
      Buffer.concat([nar('(', 'type', 'regular', 'contents'), Buffer.alloc(8, 0xff)]),
      'impossibly large',
    ],
    [
      'non-zero padding of a tag',
      Buffer.concat([ok.subarray(0, 23), Buffer.from([1]), ok.subarray(24)]),
      'padding is not zero',
    ],
    [
      'non-zero padding of contents',
      Buffer.from(ok.toString('latin1').replace('12345\0', '12345\u0001'), 'latin1'),
      'padding is not zero',
    ],
    ['a file without contents', nar('(', 'type', 'regular', ')'), 'expected "executable" or "contents"'],
    ['executable after contents', nar('(', 'type', 'regular', 'contents', '', 'executable', '', ')'), 'expected ")"'],
    ['executable alone', nar('(', 'type', 'regular', 'executable', '', ')'), 'expected "contents"'],
    ['executable with a value', nar('(', 'type', 'regular', 'executable', 'x', 'contents', '', ')'), 'expected ""'],
    ['two contents', nar('(', 'type', 'regular', 'contents', 'a', 'contents', 'b', ')'), 'expected ")"'],
    ['no type', nar('(', ')'), 'expected "type"'],
    ['two types', nar('(', 'type', 'regular', 'type', 'regular', 'contents', '', ')'), 'found "type"'],
    ['an unknown type', nar('(', 'type', 'device', ')'), 'expected "regular", "symlink" or "directory"'],
    ['a link without target', nar('(', 'type', 'symlink', ')'), 'expected "target"'],
    ['two targets', nar('(', 'type', 'symlink', 'target', 'a', 'target', 'b', ')'), 'expected ")"'],
    ['an entry without node', nar('(', 'type', 'directory', 'entry', '(', 'name', 'a', ')', ')'), 'expected "node"'],
    [
      'a node before its name',
      nar('(', 'type', 'directory', 'entry', '(', 'node', ...file(''), 'name', 'a', ')', ')'),
      'expected "name"',
    ],
    ['a node at depth 64', nar(...nested(64)), 'nested deeper than 64 levels'],
  ])('refuses %s', async (_, bytes, why) => {
    const error = { code: 'NIX_NAR_INVALID', message: expect.stringContaining(why), offset: expect.any(Number) };
    for (const size of [undefined, 1, 11]) await expect(read(bytes, size)).rejects.toMatchObject(error);
  });

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

  it('says where the fault is', async () => {
    for (const size of [undefined, 1, 60]) {
      await expect(read(nar('(', 'type', 'device', ')'), size)).rejects.toMatchObject({
        offset: 56,
        message:
          'Cannot read the NAR of "NAR": at byte 56, found "device", expected "regular", "symlink" or "directory"',
      });
    }
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
