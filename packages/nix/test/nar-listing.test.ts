import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { formatNarListing, listNar, narOf, type NarTree, parseNarListing, unpackNar } from '@nex-nix/nix';
import { describeEachNix, tempDir } from '@nex-nix/test-kit';
import { describe, expect, it } from 'vitest';
import { cut } from './nar-strings.ts';

const file = (contents: string, executable = false): NarTree => ({ type: 'regular', contents, executable });
const folder = (entries: Record<string, NarTree>): NarTree => ({ type: 'directory', entries: Object.entries(entries) });

const TREE = folder({
  a: file('x'),
  program: file('#!/bin/sh\n', true),
  zero: file(''),
  empty: folder({}),
  link: { type: 'symlink', target: '../ü' },
  10: file('1'),
  9: file('2'),
  'tab\tline\nquote"back\\slash\b\x1f\x7f': file('z'),
  '\uFFEE': file('first in bytes, last in UTF-16'),
  '\u{1F600}': file('e'),
  sub: folder({ ['__proto__']: file('y'), constructor: folder({ toString: file('') }) }),
});

describe('listNar()', () => {
  it('tells everything but the contents', async () => {
    const tree = folder({
      b: file('text', true),
      a: { type: 'symlink', target: 'b' },
      c: folder({ ['__proto__']: file('y') }),
    });
    const listing = await listNar(narOf(tree));
    const text =
      '{"root":{"entries":{"a":{"target":"b","type":"symlink"},"b":{"executable":true,"narOffset":456,"size":4,"type":"regular"},' +
      '"c":{"entries":{"__proto__":{"narOffset":792,"size":1,"type":"regular"}},"type":"directory"}},"type":"directory"},"version":1}';
    expect(formatNarListing(listing)).toBe(text);
    expect(parseNarListing(text)).toEqual(listing);
    const nar = Buffer.concat(await Array.fromAsync(narOf(tree)));
    expect(nar.toString('latin1', 456, 460)).toBe('text');
  });

  it('refuses a NAR that is malformed, too large, or has names that are not UTF-8', async () => {
    const bytes: NarTree = { type: 'directory', entries: [[new Uint8Array([0xff]), file('')]] };
    await expect(listNar(narOf(bytes))).rejects.toMatchObject({ code: 'NIX_LISTING_INVALID' });
    const target: NarTree = { type: 'symlink', target: new Uint8Array([0xff]) };
    await expect(listNar(narOf(target))).rejects.toMatchObject({ code: 'NIX_LISTING_INVALID' });
    await expect(listNar(narOf(TREE), { maxSize: 1000 })).rejects.toMatchObject({ code: 'NIX_NAR_SIZE_MISMATCH' });
    await expect(listNar(cut(new Uint8Array()))).rejects.toMatchObject({ code: 'NIX_NAR_INVALID' });
  });
});

describe('parseNarListing()', () => {
  const root = (node: unknown) => JSON.stringify({ version: 1, root: node });
  const entries = (value: unknown) => root({ type: 'directory', entries: value });
  const deep = (levels: number): unknown =>
    levels === 0 ? { type: 'regular', size: 0 } : { type: 'directory', entries: { d: deep(levels - 1) } };

  it('takes what older versions wrote', () => {
    const node = { type: 'regular', size: 3, executable: false };
    expect(parseNarListing(root(node))).toEqual({ version: 1, root: { type: 'regular', size: 3 } });
    expect(() => parseNarListing(root(deep(63)))).not.toThrow();
  });

  it.each([
    ['no JSON', '{"version":1', 'it is not JSON'],
    ['an array', '[]', 'it is not an object'],
    ['another version', JSON.stringify({ version: 2, root: {} }), 'its version is 2, expected 1'],
    ['an unknown field', JSON.stringify({ version: 1, root: {}, more: 1 }), 'the unknown field "more"'],
    ['no root', '{"version":1}', '"." is not an object'],
    ['an unknown type', root({ type: 'device' }), '"." has a type other than'],
    ['no size', root({ type: 'regular' }), '"." has no size'],
    ['a negative size', root({ type: 'regular', size: -1 }), 'has no size'],
    ['a huge size', root({ type: 'regular', size: 2 ** 60 }), 'has no size'],
    ['a size that is text', root({ type: 'regular', size: '1' }), 'has no size'],
    ['a fractional offset', root({ type: 'regular', size: 1, narOffset: 0.5 }), 'has a narOffset that is no offset'],
    ['executable as text', root({ type: 'regular', size: 1, executable: 'yes' }), 'is "executable" by something else'],
    ['a field of a file on a link', root({ type: 'symlink', target: 'a', size: 1 }), 'has the unknown field "size"'],
    ['no target', root({ type: 'symlink' }), 'has no target'],
    ['an empty target', root({ type: 'symlink', target: '' }), 'has a target that is empty'],
    [
      'half a surrogate pair',
      '{"version":1,"root":{"type":"symlink","target":"\\ud83d"}}',
      'is not well-formed Unicode',
    ],
    ['no entries', root({ type: 'directory' }), 'has no entries'],
    ['entries in an array', entries([]), 'has no entries'],
    ['the name ..', entries({ '..': deep(0) }), '"." has an entry ".." whose name is "." or ".."'],
    ['a slash in a name', entries({ 'a/b': deep(0) }), 'contains "/"'],
    ['a fault further down', entries({ a: { type: 'directory', entries: { b: null } } }), '"./a/b" is not an object'],
    ['64 levels', root(deep(64)), 'is nested deeper than 64 levels'],
  ])('refuses %s', (_, text, why) => {
    expect(() => parseNarListing(text)).toThrow(
      expect.objectContaining({ code: 'NIX_LISTING_INVALID', message: expect.stringContaining(why) }),
    );
  });
});

describeEachNix('listings and `nix copy`', (nix) => {
  it('are the same', async () => {
    await using dir = await tempDir();
    await unpackNar(narOf(TREE), join(dir.path, 'tree'));
    const store = ['--store', `local?root=${join(dir.path, 'root')}`];
    const cache = join(dir.path, 'cache');
    const added = await nix.run('nix', ...store, 'store', 'add-path', '--name', 'tree', join(dir.path, 'tree'));
    const path = added.toString().trim();
    const url = `file://${cache}?write-nar-listing=true&compression=none`;
    await nix.run('nix', ...store, 'copy', '--to', url, path);
    const name = (await readdir(cache)).find((entry) => entry.endsWith('.ls')) ?? '';
    const theirs = await readFile(join(cache, name), 'utf8');
    const ours = await listNar(narOf(TREE));
    expect(parseNarListing(theirs)).toEqual(ours);
    // The older one writes the keys of each node in another order, and a backspace in hexadecimal.
    if (nix.isAtLeast('2.34')) expect(formatNarListing(ours)).toBe(theirs);
    else expect(formatNarListing(parseNarListing(theirs))).toBe(formatNarListing(ours));
  });
});
