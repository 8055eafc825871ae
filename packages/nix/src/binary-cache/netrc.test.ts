import { describe, expect, it } from 'vitest';
import { netrcLogin } from './netrc.ts';

const FILE = `# the caches
machine cache.example.org login me password s3cret
machine other.example.org
  login "with space"   # a comment
  account ignored
  password "quote \\" and \\\\"
macdef init
machine cache.example.org login macro password macro

default login anyone password any
`;

describe('netrcLogin()', () => {
  it.each([
    ['cache.example.org', { login: 'me', password: 's3cret' }],
    ['CACHE.example.org', { login: 'me', password: 's3cret' }],
    ['other.example.org', { login: 'with space', password: 'quote " and \\' }],
    ['elsewhere', { login: 'anyone', password: 'any' }],
  ])('finds what is said of %s', (host, login) => {
    expect(netrcLogin(FILE, host, 'f')).toEqual(login);
  });

  it('finds nothing where nothing is said', () => {
    expect(netrcLogin('machine a login b password c', 'b', 'f')).toBeUndefined();
    expect(netrcLogin('', 'b', 'f')).toBeUndefined();
  });

  it('takes the first machine, and a key word as a value', () => {
    const text = 'machine a login machine password macdef\nmachine a login x password y\n';
    expect(netrcLogin(text, 'a', 'f')).toEqual({ login: 'machine', password: 'macdef' });
  });

  it.each([
    ['machine a login b password', 'line 1: its last word has no value'],
    ['machine a\nlogin "b', 'line 2: a quoted word does not end'],
    ['machine a\n\npass s3cret', 'line 3: a word is none of machine, default, login, password, account, macdef'],
    ['login b', 'line 1: "login" comes before any "machine"'],
  ])('refuses %j without showing it', (text, message) => {
    const refused = expect.objectContaining({
      code: 'NIX_NETRC_INVALID',
      message: expect.stringMatching(new RegExp(`^Cannot read the netrc file "f": ${message}`)),
    });
    expect(() => netrcLogin(text, 'a', 'f')).toThrow(refused);
    expect(() => netrcLogin(text, 'a', 'f')).not.toThrow(/s3cret/);
  });
});
