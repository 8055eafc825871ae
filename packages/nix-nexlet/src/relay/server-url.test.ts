import { describe, expect, it } from 'vitest';
import { parseServerUrl } from './server-url.ts';

describe('parseServerUrl()', () => {
  it('knows where a URL leads to, with the port that it does not name', () => {
    const target = (text: string) => parseServerUrl(text)?.target;
    expect(target('nats://127.0.0.1:4333')).toEqual({ host: '127.0.0.1', port: 4333 });
    expect(target('hub.example')).toEqual({ host: 'hub.example', port: 4222 });
    expect(target('tls://[fd00::1]')).toEqual({ host: 'fd00::1', port: 4222 });
    expect(target('wss://hub.example/nats')).toEqual({ host: 'hub.example', port: 443 });
    expect(target('ws://hub.example')).toEqual({ host: 'hub.example', port: 80 });
    expect(target('ftp://hub.example')).toBeUndefined();
    expect(target('nats://')).toBeUndefined();
  });

  it('keeps all of it but host and port', () => {
    expect(parseServerUrl('nats://me:secret@127.0.0.1:4222')?.at('10.0.0.1', 14_222)).toBe(
      'nats://me:secret@10.0.0.1:14222',
    );
    expect(parseServerUrl('wss://hub.example/nats')?.at('hub.example', 10_443)).toBe('wss://hub.example:10443/nats');
    expect(parseServerUrl('hub.example:4222')?.at('hub.example', 4222)).toBe('nats://hub.example:4222');
  });

  it('has names kept, but for addresses and for what /etc/hosts has already', () => {
    const named = (text: string) => parseServerUrl(text)?.named;
    expect(named('tls://hub.example')).toBe(true);
    expect(named('nats://localhost:4222')).toBe(false);
    expect(named('nats://a.localhost')).toBe(false);
    expect(named('nats://10.0.0.1')).toBe(false);
    expect(named('nats://[::1]')).toBe(false);
  });
});
