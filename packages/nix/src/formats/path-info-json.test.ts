import { describe, expect, it } from 'vitest';
import { parsePathInfoJson } from './path-info-json.ts';

const LIB = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-lib-1.0';
const APP = 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-app-1.0';
const SRI = 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=';
const CANONICAL = 'sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73';
const SIG = Buffer.alloc(64).toString('base64');
const WANTED = {
  storePath: `/nix/store/${APP}`,
  narHash: CANONICAL,
  narSize: 544,
  references: [`/nix/store/${LIB}`, `/nix/store/${APP}`],
  deriver: '/nix/store/cccccccccccccccccccccccccccccccc-x.drv',
  signatures: [`k:${SIG}`],
  ca: `fixed:r:${CANONICAL}`,
};
const full = (base: string) => `/nix/store/${base}`;
const entry = {
  narHash: SRI,
  narSize: 544,
  references: [full(APP), full(LIB)],
  deriver: WANTED.deriver,
  signatures: [`k:${SIG}`],
  ca: WANTED.ca,
};
const version2 = {
  ...entry,
  references: [APP, LIB],
  deriver: 'cccccccccccccccccccccccccccccccc-x.drv',
  ca: { method: 'nar', hash: SRI },
};

describe('parsePathInfoJson()', () => {
  it.each([
    [
      'the array of 2.4',
      [
        { path: full(APP), ...entry },
        { path: full(LIB), valid: false },
      ],
    ],
    ['the object of 2.19', { [full(APP)]: entry, [full(LIB)]: null }],
    ['version 2 of 2.33', { version: 2, storeDir: '/nix/store', info: { [APP]: version2 } }],
    [
      'version 3 of 2.35',
      {
        version: 3,
        storeDir: '/nix/store',
        info: { [APP]: { ...version2, signatures: [{ keyName: 'k', sig: SIG }] } },
      },
    ],
    [
      'a hash as an object',
      { [full(APP)]: { ...entry, narHash: { algorithm: 'sha256', format: 'base64', hash: SRI.slice(7) } } },
    ],
  ])('reads %s', (_, json) => {
    expect(parsePathInfoJson(JSON.stringify(json))).toEqual([WANTED]);
  });

  it('reads absent and null fields as absent', () => {
    const bare = { narHash: SRI, narSize: 1, references: [], deriver: null, ca: null };
    expect(parsePathInfoJson(JSON.stringify({ [full(APP)]: bare }))).toEqual([
      { storePath: full(APP), narHash: CANONICAL, narSize: 1, references: [], signatures: [] },
    ]);
  });

  it.each([
    ['no JSON', 'error: x'],
    ['a number', '1'],
    ['no hash', JSON.stringify({ [full(APP)]: { ...entry, narHash: undefined } })],
    ['a size of text', JSON.stringify({ [full(APP)]: { ...entry, narSize: '1' } })],
    ['a path outside the store', JSON.stringify({ '/etc/passwd': entry })],
    ['a path in another store', JSON.stringify({ version: 2, storeDir: '/gnu/store', info: { [APP]: version2 } })],
    ['an address of nonsense', JSON.stringify({ [full(APP)]: { ...entry, ca: 'fixed:r:sha256:x' } })],
    ['no references', JSON.stringify({ [full(APP)]: { ...entry, references: undefined } })],
  ])('refuses %s', (_, text) => {
    expect(() => parsePathInfoJson(text)).toThrow(expect.objectContaining({ code: 'NIX_PATH_INFO_INVALID' }));
  });
});
