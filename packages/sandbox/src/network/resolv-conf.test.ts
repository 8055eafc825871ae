import { describe, expect, it } from 'vitest';
import { usableServers } from './resolv-conf.ts';

describe('usableServers()', () => {
  it('leaves out what a sandbox at a bridge cannot reach: loopback addresses and IPv6', () => {
    const text =
      '# nameserver 9.9.9.9\nnameserver 127.0.0.53\nnameserver\t192.0.2.1\nnameserver ::1\nnameserver fd00::1\n';
    expect(usableServers(text)).toEqual(['192.0.2.1']);
  });
});
