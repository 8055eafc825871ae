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

  it('reads hashes in base 16 and SRI, and writes them canonically', () => {
    const sri = `sha256-${Buffer.from('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 'hex').toString('base64')}`;
    expect(parseNarInfo(MINIMAL.replace(H, sri)).narHash).toBe(H);
  });

  it.each([
    ['no final line end', FULL.slice(0, -1), 'its last line does not end'],
    ['nothing', '', 'its last line does not end'],
    ['CRLF', FULL.replaceAll('\n', '\r\n'), 'has a control character'],
    ['an empty line', `${FULL}\n`, 'is not "<key>: <value>"'],
    ['no space after the colon', FULL.replace('URL: ', 'URL:'), 'line 2 is not'],
    ['no StorePath', FULL.replace(/^StorePath.*\n/m, ''), 'StorePath is missing'],
    ['no URL', FULL.replace(/^URL.*\n/m, ''), 'URL is missing'],
    ['an empty URL', FULL.replace(/^URL.*$/m, 'URL: '), 'URL is malformed'],
    ['no NarHash', FULL.replace(/^NarHash.*\n/m, ''), 'NarHash is missing'],
    [
      'a NarHash that is SHA-1',
      FULL.replace(`NarHash: ${H}`, 'NarHash: sha1:143xibwh31h9bvxzalr0sjvbbvpa6ffs'),
      'NarHash is malformed',
    ],
    ['no NarSize', FULL.replace(/^NarSize.*\n/m, ''), 'NarSize is missing'],
    ['NarSize 0', FULL.replace('544', '0'), 'NarSize is malformed'],
    ['a negative NarSize', FULL.replace('544', '-1'), 'NarSize is malformed'],
    ['a NarSize in hex', FULL.replace('544', '0x220'), 'NarSize is malformed'],
    ['a NarSize beyond 2^53', FULL.replace('544', '9007199254740993'), 'NarSize is malformed'],
    [
      'a store path below another',
      FULL.replace(`/nix/store/${APP}\n`, `/nix/store/${APP}/bin\n`),
      'StorePath is malformed',
    ],
    ['a reference that is a full path', FULL.replace(LIB, `/nix/store/${LIB}`), 'References is malformed'],
    ['two spaces between references', FULL.replace(`${LIB} `, `${LIB}  `), 'References is malformed'],
    ['two References', `${FULL}References: ${LIB}\n`, 'References appears twice'],
    ['two CA', `${FULL}CA: fixed:r:${H}\n`, 'CA appears twice'],
    ['two StorePath', `${FULL}StorePath: /nix/store/${LIB}\n`, 'StorePath appears twice'],
    ['a signature without a key', FULL.replace(SIG, SIG.slice(5)), 'Sig is malformed'],
    ['a signature that is too short', FULL.replace(SIG, 'key-1:AAAA'), 'Sig is malformed'],
    ['an empty Deriver', FULL.replace(/^Deriver.*$/m, 'Deriver: '), 'Deriver is malformed'],
  ])('refuses %s', (_, text, why) => {
    expect(() => parseNarInfo(text, 'http://cache/x.narinfo')).toThrow(why);
    expect(() => parseNarInfo(text, 'http://cache/x.narinfo')).toThrow(
      expect.objectContaining({
        code: 'NIX_NARINFO_INVALID',
        message: expect.stringContaining('"http://cache/x.narinfo"'),
      }),
    );
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

  it('lets no value break out of its line', () => {
    expect(() => formatNarInfo({ ...parseNarInfo(FULL), url: 'x\nSig: y' })).toThrow('URL has a line break');
  });

  it('is undone by parseNarInfo()', () => {
    const path = fc
      .tuple(fc.uint8Array({ minLength: 20, maxLength: 20 }), fc.stringMatching(/^[A-Za-z0-9+_?=]{1,40}$/))
      .map(([hash, name]) => storePathFromBaseName(`${encodeNixBase32(hash)}-${name}`));
    const hash = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(narHashOf);
    const signature = fc
      .tuple(fc.stringMatching(/^[a-z0-9.-]{1,20}$/), fc.uint8Array({ minLength: 64, maxLength: 64 }))
      .map(([name, bytes]) => `${name}:${Buffer.from(bytes).toString('base64')}`);
    const info = fc.record<NarInfo>({
      storePath: path,
      url: fc.webPath().map((url) => `nar${url}`),
      compression: fc.constantFrom('none', 'xz', 'zstd'),
      narHash: hash,
      narSize: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      references: fc.uniqueArray(path, { maxLength: 4 }).map((paths) => paths.sort()),
      signatures: fc.uniqueArray(signature, { maxLength: 3 }).map((signatures) => signatures.sort()),
    });
    fc.assert(
      fc.property(info, (value) => {
        expect(parseNarInfo(formatNarInfo(value))).toEqual(value);
      }),
    );
  });
});
