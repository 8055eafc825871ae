import { describe, expect, it } from 'vitest';
import { natsContext } from './nats-context.ts';
import { serverAccess } from './server-access.ts';

describe('serverAccess()', () => {
  it('names all servers, without who connects', () => {
    const context = natsContext({ url: 'nats://joe:secret@a:4222, tls://b:4443', user: 'joe', password: 'secret' });
    expect(serverAccess(context)).toEqual({ servers: ['nats://a:4222', 'tls://b:4443'], tls: {} });
  });

  it('names the files of TLS by absolute paths', () => {
    const context = natsContext({ ca: 'ca.pem', cert: '/etc/c.pem', key: 'file:///etc/k.pem', tls_first: true });
    expect(serverAccess(context)).toEqual({
      servers: ['nats://127.0.0.1:4222'],
      tls: { ca: `${process.cwd()}/ca.pem`, cert: '/etc/c.pem', key: '/etc/k.pem', first: true },
    });
  });
});
