import { describe, expect, it } from 'vitest';
import { clip, fit, plainText, wrap } from './terminal-text.ts';

describe('plainText()', () => {
  it.each([
    ['colours', '\u001B[31mred\u001B[0m text', 'red text'],
    ['titles of windows', '\u001B]0;owned\u0007text', 'text'],
    ['8-bit controls', 'a\u009B2Jb', 'ab'],
    ['half a sequence', 'a\u001B', 'a'],
    ['what goes back in the line', 'good\rbad\b\b', 'goodbad'],
    ['marks that turn the writing', 'a\u202Etxt.exe\u2066', 'atxt.exe'],
    ['tabs, which become spaces', 'a\tb', 'a    b'],
  ])('takes out %s', (_what, text, shown) => expect(plainText(text)).toBe(shown));

  it('leaves letters of any script as they are', () => {
    expect(plainText('Grüße 世界 👩‍👩‍👧')).toBe('Grüße 世界 👩‍👩‍👧');
  });
});

describe('fit()', () => {
  it.each([
    ['abc', 5, 'abc  '],
    ['abcdef', 5, 'abcd…'],
    ['abc', 3, 'abc'],
    ['世界世界', 5, '世界…'],
    ['世界', 5, '世界 '],
    ['世界世', 4, '世… '],
    ['e\u0301e\u0301', 3, 'e\u0301e\u0301 '],
    ['abc', 0, ''],
  ])('%s in %i columns', (text, width, shown) => expect(fit(text, width)).toBe(shown));
});

it('wrap() cuts where a line is full, and loses nothing', () => {
  expect(wrap('abcdef', 4)).toEqual(['abcd', 'ef']);
  expect(wrap('a世界b', 4)).toEqual(['a世', '界b']);
  expect(wrap('', 4)).toEqual(['']);
});

it('clip() fills nothing up', () => {
  expect(clip('abc', 5)).toBe('abc');
  expect(clip('abc', 2)).toBe('a…');
  expect(clip('ü', 0)).toBe('');
});
