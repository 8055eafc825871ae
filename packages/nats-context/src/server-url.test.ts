import { expect, it } from 'vitest';
import { parseServerUrls } from './server-url.ts';

it.each([
  ['', { servers: ['nats://127.0.0.1:4222'] }],
  ['a:1, tls://b:2,', { servers: ['nats://a:1', 'tls://b:2'] }],
  ['nats://[::1]:4222', { servers: ['nats://[::1]:4222'] }],
  ['nats://u:1234@h:4222', { servers: ['nats://h:4222'], userInfo: { user: 'u', password: '1234' } }],
  ['nats://u%40x:p@ss%2F@h', { servers: ['nats://h'], userInfo: { user: 'u@x', password: 'p@ss/' } }],
  ['nats://a,nats://s3cret@h', { servers: ['nats://a', 'nats://h'], userInfo: { token: 's3cret' } }],
  ['nats://100%:x@h', { servers: ['nats://h'], userInfo: { user: '100%', password: 'x' } }],
])('parseServerUrls() reads "%s"', (text, expected) => {
  expect(parseServerUrls(text)).toEqual(expected);
});
