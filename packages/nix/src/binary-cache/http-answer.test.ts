import { describe, expect, it } from 'vitest';
import { redirect } from './http-answer.ts';

describe('redirect()', () => {
  const from = new URL('https://cache.example.org/nar/x');

  it.each([
    ['/y', 'https://cache.example.org/y'],
    ['https://me:secret@mirror.example.org/y?token=1', 'https://mirror.example.org/y?token=1'],
  ])('goes to %s', (location, url) => {
    expect(redirect(location, from, 'GET').href).toBe(url);
  });

  it.each([
    ['http://cache.example.org/y?token=1', 'from https to "http://cache.example.org/y", which is not encrypted'],
    ['file:///etc/passwd', 'to something that is no URL of HTTP'],
    ['https://[', 'to something that is no URL of HTTP'],
  ])('does not go to %s', (location, why) => {
    expect(() => redirect(location, from, 'GET')).toThrow(
      expect.objectContaining({
        code: 'NIX_CACHE_INVALID',
        message: `Cannot get "https://cache.example.org/nar/x": it redirects ${why}`,
      }),
    );
  });
});
