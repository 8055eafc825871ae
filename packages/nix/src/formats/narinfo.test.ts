import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  encodeNixBase32,
  fingerprint,
  formatNarInfo,
  type NarInfo,
  narHashOf,
  parseNarInfo,
  storePathFromBaseName,
} from '../index.ts';

const H = 'sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73';
const HEX = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const BASE64 = Buffer.from(HEX, 'hex').toString('base64');
const LIB = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-lib-1.0';
const APP = 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-app-1.0';
const SIG = `key-1:${Buffer.alloc(64, 1).toString('base64')}`;
const FULL = `StorePath: /nix/store/${APP}
URL: nar/x.nar.xz?part=1
Compression: xz
FileHash: ${H}
FileSize: 12
NarHash: ${H}
NarSize: 544
References: ${LIB} ${APP}
Deriver: cccccccccccccccccccccccccccccccc-x.drv
System: x86_64-linux
Sig: ${SIG}
CA: fixed:r:${H}
`;
const MINIMAL = `StorePath: /nix/store/${APP}\nURL: n\nNarHash: ${H}\nNarSize: 1\n`;

describe('parseNarInfo()', () => {
  it('reads every field and keeps the ones it does not know', () => {
    const info = parseNarInfo(FULL);
    expect(info).toEqual({
      storePath: `/nix/store/${APP}`,
      url: 'nar/x.nar.xz?part=1',
      compression: 'xz',
      fileHash: H,
      fileSize: 12,
      narHash: H,
      narSize: 544,
      references: [`/nix/store/${LIB}`, `/nix/store/${APP}`],
      deriver: '/nix/store/cccccccccccccccccccccccccccccccc-x.drv',
      signatures: [SIG],
      ca: `fixed:r:${H}`,
      extraFields: [['System', 'x86_64-linux']],
    });
    expect(formatNarInfo(info)).toBe(FULL);
  });

  it('takes a missing Compression for bzip2, and unknown-deriver for none', () => {
    const info = parseNarInfo(`${MINIMAL}Deriver: unknown-deriver\nReferences: \n`);
    expect(info).toMatchObject({ compression: 'bzip2', references: [], signatures: [] });
    expect(info.deriver).toBeUndefined();
  });

  it.each([
    ['base16', `sha256:${HEX}`],
    ['base64', `sha256:${BASE64}`],
    ['SRI', `sha256-${BASE64}`],
  ])('reads hashes in %s, and writes them canonically', (_, hash) => {
    const info = parseNarInfo(
      FULL.replace(`FileHash: ${H}`, `FileHash: ${hash}`).replace(`NarHash: ${H}`, `NarHash: ${hash}`),
    );
    expect(info).toMatchObject({ fileHash: H, narHash: H });
    expect(formatNarInfo(info)).toBe(FULL);
  });

  it('reads several signatures and addresses of every form', () => {
    const other = `a-1:${Buffer.alloc(64, 2).toString('base64')}`;
    expect(parseNarInfo(`${FULL}Sig: ${other}\nSig: ${SIG}\n`).signatures).toEqual([other, SIG]);
    for (const ca of [`text:${H}`, `fixed:${H}`, 'fixed:r:sha1:143xibwh31h9bvxzalr0sjvbbvpa6ffs', 'fixed:git:sha1:x']) {
      expect(parseNarInfo(`${MINIMAL}CA: ${ca}\n`).ca).toBe(ca);
    }
  });

  const set = (key: string, value: string) => FULL.replace(new RegExp(`^${key}: .*$`, 'm'), `${key}: ${value}`);
  const without = (key: string) => FULL.replace(new RegExp(`^${key}: .*\n`, 'm'), '');

  // What is wrong, the text, the error, and where in the text it is.
  it.each<[string, string, string, string | number]>([
    ['no final line feed', FULL.slice(0, -1), 'line 12: it does not end with a line feed', FULL.length - 1],
    ['nothing', '', 'line 1: it does not end with a line feed', 0],
    ['CRLF', FULL.replaceAll('\n', '\r\n'), 'line 1: StorePath has a control character', '\r\nURL'],
    ['a NUL', set('URL', 'nar/\0'), 'line 2: URL has a control character', '\0'],
    ['an empty line', `${FULL}\n`, 'line 13: "" is not "<key>: <value>"', FULL.length],
    ['no colon', FULL.replace('URL: ', 'URL '), 'line 2: "URL nar/x.nar.xz?part=1" is not "<key>: <value>"', 'URL '],
    ['no space after the colon', FULL.replace('URL: ', 'URL:'), 'line 2: "URL:nar/x.nar.xz?part=1" is not', 'URL:'],
    ['no key', FULL.replace('URL: ', ': '), 'line 2: ": nar/x.nar.xz?part=1" is not', ': nar/'],
    ['HTML', '<html>\n', 'line 1: "<html>" is not "<key>: <value>"', 0],
    ['no StorePath', without('StorePath'), 'StorePath is missing', without('StorePath').length],
    ['no URL', without('URL'), 'URL is missing', without('URL').length],
    ['no NarHash', without('NarHash'), 'NarHash is missing', without('NarHash').length],
    ['no NarSize', without('NarSize'), 'NarSize is missing', without('NarSize').length],
    ['a key in lower case', FULL.replace('URL', 'Url'), 'URL is missing', FULL.length],
    ['a StorePath that is a base name', set('StorePath', APP), 'line 1: StorePath is malformed', `${APP}\nURL`],
    ['a StorePath below another', set('StorePath', `/nix/store/${APP}/bin`), 'StorePath is malformed', '/bin'],
    ['a StorePath in another store', set('StorePath', `/gnu/store/${APP}`), 'StorePath is malformed', 'gnu'],
    [
      'two StorePath',
      `${FULL}StorePath: /nix/store/${LIB}\n`,
      'line 13: StorePath appears twice, first in line 1',
      `/nix/store/${LIB}`,
    ],
    ['an empty URL', set('URL', ''), 'line 2: URL is malformed: it is empty', '\nCompression'],
    ['two URL', `${FULL}URL: second\n`, 'line 13: URL appears twice, first in line 2', 'second'],
    ['a FileHash of nonsense', set('FileHash', 'sha256:nonsense'), 'line 4: FileHash is malformed', 'nonsense'],
    ['a negative FileSize', set('FileSize', '-1'), 'line 5: FileSize is malformed: "-1" is not a size', '-1\n'],
    ['an empty FileSize', set('FileSize', ''), 'line 5: FileSize is malformed: "" is not a size', '\nNarHash'],
    [
      'a NarHash that is SHA-1',
      set('NarHash', 'sha1:143xibwh31h9bvxzalr0sjvbbvpa6ffs'),
      'line 6: NarHash is malformed',
      'sha1',
    ],
    ['a NarHash without an algorithm', set('NarHash', HEX), 'line 6: NarHash is malformed', HEX],
    ['a NarHash with a wrong symbol', set('NarHash', H.replace('0mdq', '0meq')), 'position 9 is "e"', 'eq'],
    [
      'NarSize 0',
      set('NarSize', '0'),
      'line 7: NarSize is malformed: "0" is not a size, expected a decimal number of bytes from 1',
      '0\nRef',
    ],
    ['a negative NarSize', set('NarSize', '-1'), 'line 7: NarSize is malformed', '-1\n'],
    ['a NarSize in hex', set('NarSize', '0x220'), 'line 7: NarSize is malformed', '0x220'],
    ['a NarSize with a fraction', set('NarSize', '544.0'), 'line 7: NarSize is malformed', '544'],
    ['a NarSize with white space', set('NarSize', '544 '), 'line 7: NarSize is malformed', '544'],
    ['a NarSize beyond 2^53', set('NarSize', '9007199254740993'), 'line 7: NarSize is malformed', '9007'],
    [
      'a reference that is a full path',
      set('References', `${LIB} /nix/store/${APP}`),
      'line 8: References is malformed',
      `/nix/store/${APP}\nDer`,
    ],
    [
      'two spaces between references',
      FULL.replace(`${LIB} `, `${LIB}  `),
      'line 8: References is malformed',
      ` ${APP}\nDer`,
    ],
    [
      'a reference with a wrong symbol',
      set('References', `${LIB} ${APP.replace('bb-', 'b!-')}`),
      'position 31 is "!"',
      '!',
    ],
    ['two References', `${FULL}References: ${LIB}\n`, 'line 13: References appears twice, first in line 8', `${LIB}\n`],
    ['an empty Deriver', set('Deriver', ''), 'line 9: Deriver is malformed', '\nSystem'],
    [
      'a Deriver that is a full path',
      set('Deriver', `/nix/store/${APP}`),
      'line 9: Deriver is malformed',
      `/nix/store/${APP}\nSys`,
    ],
    ['a signature without a key', set('Sig', SIG.slice(5)), 'line 11: Sig is malformed', SIG.slice(5)],
    [
      'a signature that is too short',
      set('Sig', 'key-1:AAAA'),
      'line 11: Sig is malformed: "key-1:AAAA" is not "<key name>:',
      'key-1',
    ],
    ['one malformed signature of several', `${FULL}Sig: x\n`, 'line 13: Sig is malformed', 'x\n'],
    ['an empty CA', set('CA', ''), 'line 12: CA is malformed: it is empty', FULL.length - `fixed:r:${H}\n`.length],
    [
      'a CA with a hash of nonsense',
      set('CA', 'fixed:r:sha256:x'),
      'line 12: CA is malformed: Cannot parse the content address "fixed:r:sha256:x"',
      'x\n',
    ],
    ['two CA', `${FULL}CA: text:${H}\n`, 'line 13: CA appears twice, first in line 12', 'text:'],
  ])('refuses %s', (_, text, why, where) => {
    const error = (() => {
      try {
        return parseNarInfo(text, 'http://cache/x.narinfo');
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(error).toMatchObject({ code: 'NIX_NARINFO_INVALID', message: expect.stringContaining(why) });
    expect(error).toHaveProperty(
      'message',
      expect.stringMatching(/^Cannot parse the narinfo "http:\/\/cache\/x.narinfo": /),
    );
    expect(error).toHaveProperty('offset', typeof where === 'number' ? where : text.lastIndexOf(where));
  });
});

describe('formatNarInfo()', () => {
  it('sorts references and signatures, as Nix does', () => {
    const info = parseNarInfo(FULL);
    const other = `a-1:${Buffer.alloc(64, 2).toString('base64')}`;
    const shuffled = { ...info, references: info.references.toReversed(), signatures: [SIG, other, SIG] };
    expect(formatNarInfo(shuffled)).toBe(FULL.replace(`Sig: ${SIG}`, `Sig: ${other}\nSig: ${SIG}`));
    expect(fingerprint(shuffled)).toBe(fingerprint(info));
  });

  it.each<[string, Partial<NarInfo>, string]>([
    ['a URL with a line break', { url: 'x\nSig: y' }, 'URL has a line break or another control character'],
    ['a compression with a carriage return', { compression: 'none\r' }, 'Compression has a line break'],
    ['a CA with a line break', { ca: 'x\nDeriver: y' }, 'CA has a line break'],
    ['an unknown field with a line break', { extraFields: [['X', 'a\nSig: b']] }, 'X has a line break'],
    ['an unknown field with a known key', { extraFields: [['Sig', SIG]] }, '"Sig" is no unknown field'],
    ['an unknown field with a colon in its key', { extraFields: [['X: Y', 'z']] }, '"X: Y" is no unknown field'],
    ['an unknown field without a key', { extraFields: [['', 'z']] }, '"" is no unknown field'],
    ['a malformed signature', { signatures: [SIG, 'key-1:AAAA'] }, 'Sig is malformed: "key-1:AAAA"'],
  ])('does not write %s', (_, wrong, why) => {
    const error = {
      code: 'NIX_NARINFO_INVALID',
      message: expect.stringContaining(`Cannot write the narinfo of "/nix/store/${APP}": ${why}`),
    };
    expect(() => formatNarInfo({ ...parseNarInfo(FULL), ...wrong })).toThrow(expect.objectContaining(error));
  });

  const path = fc
    .tuple(fc.uint8Array({ minLength: 20, maxLength: 20 }), fc.stringMatching(/^[A-Za-z0-9+_?=]{1,40}$/))
    .map(([hash, name]) => storePathFromBaseName(`${encodeNixBase32(hash)}-${name}`));
  const hash = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(narHashOf);
  const signature = fc
    .tuple(fc.stringMatching(/^[a-z0-9.-]{1,20}$/), fc.uint8Array({ minLength: 64, maxLength: 64 }))
    .map(([name, bytes]) => `${name}:${Buffer.from(bytes).toString('base64')}`);
  const extraField = fc.tuple(fc.stringMatching(/^X[A-Za-z-]{0,10}$/), fc.stringMatching(/^[ -~]{0,20}$/));
  const sorted = <T extends string>(item: fc.Arbitrary<T>) =>
    fc.uniqueArray(item, { maxLength: 4 }).map((items) => items.sort());
  const info: fc.Arbitrary<NarInfo> = fc.record(
    {
      storePath: path,
      url: fc.webPath().map((url) => `nar${url}`),
      compression: fc.constantFrom('none', 'xz', 'zstd', 'bzip2', 'gzip', 'br', 'lz4'),
      fileHash: hash,
      fileSize: fc.nat(),
      narHash: hash,
      narSize: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      references: sorted(path),
      deriver: path,
      signatures: sorted(signature),
      ca: fc.tuple(fc.constantFrom('text', 'fixed', 'fixed:r'), hash).map((parts) => parts.join(':')),
      extraFields: fc.array(extraField, { minLength: 1, maxLength: 3 }),
    },
    { requiredKeys: ['storePath', 'url', 'compression', 'narHash', 'narSize', 'references', 'signatures'] },
  );

  it('is undone by parseNarInfo()', () => {
    fc.assert(
      fc.property(info, (value) => {
        expect(parseNarInfo(formatNarInfo(value))).toEqual(value);
      }),
    );
  });

  it('writes the same whatever the order of the lines it was read from', () => {
    const shuffled = info.chain((value) => {
      // Only the last line feed is cut off: without references, the line "References: " ends with its space.
      const lines = formatNarInfo({ ...value, extraFields: [] })
        .slice(0, -1)
        .split('\n');
      return fc.shuffledSubarray(lines, { minLength: lines.length }).map((order) => [lines, order] as const);
    });
    fc.assert(
      fc.property(shuffled, ([lines, order]) => {
        expect(formatNarInfo(parseNarInfo(`${order.join('\n')}\n`))).toBe(`${lines.join('\n')}\n`);
      }),
    );
  });
});
