import { describe, expect, it } from 'vitest';
import { formatContext, natsContext, parseContext } from './nats-context.ts';

/** A file as natscli writes it: all fields, this order. */
const FILE = `{
  "description": "dev",
  "url": "nats://127.0.0.1:4222",
  "socks_proxy": "",
  "token": "",
  "user": "",
  "password": "",
  "creds": "/creds/Admin.creds",
  "nkey": "",
  "cert": "",
  "key": "",
  "ca": "",
  "nsc": "",
  "jetstream_domain": "hub",
  "jetstream_api_prefix": "",
  "jetstream_event_prefix": "",
  "inbox_prefix": "_INBOX_x",
  "user_jwt": "",
  "user_seed": "",
  "color_scheme": "",
  "tls_first": true,
  "windows_cert_store": "",
  "windows_cert_match_by": "",
  "windows_cert_match": "",
  "windows_ca_certs_match": [
    "a"
  ]
}`;

describe('parseContext() and formatContext()', () => {
  it('give back natscli’s own file byte for byte', () => {
    const context = parseContext('dev', FILE);
    expect(context).toMatchObject({ name: 'dev', creds: '/creds/Admin.creds', tls_first: true });
    expect(formatContext(context)).toBe(FILE);
  });

  it('fill in absent fields and ignore unknown ones', () => {
    expect(parseContext('dev', '{"url":"nats://a","from_the_future":1,"user":null}')).toEqual(
      natsContext({ name: 'dev', url: 'nats://a' }),
    );
  });

  it.each([
    ['{', /Cannot use the context "dev": its file is not JSON/],
    ['[]', /its file is not an object/],
    ['{"url":1}', /its field "url" has a wrong type/],
    ['{"windows_ca_certs_match":[1]}', /its field "windows_ca_certs_match" has a wrong type/],
  ])('refuse %s', (text, message) => {
    expect(() => parseContext('dev', text)).toThrow(message);
  });

  it('refuse a context with two identities', () => {
    expect(() => formatContext(natsContext({ name: 'dev', user: 'u', creds: '/c' }))).toThrow(
      'Cannot use the context "dev": only one of user, creds can be set',
    );
  });
});
