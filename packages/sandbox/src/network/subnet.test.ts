import { describe, expect, it } from 'vitest';
import { addressIn, bridgeSubnet, overlap, parseSubnet } from './subnet.ts';

const subnet = (text: string) => parseSubnet(text) ?? expect.fail(text);

describe('subnets', () => {
  it('number their addresses', () => {
    expect(addressIn(subnet('10.217.64.0/20'), 1)).toBe('10.217.64.1');
    expect(addressIn(subnet('10.217.64.0/20'), 257)).toBe('10.217.65.1');
    expect(addressIn(subnet('192.168.1.77/24'), 0)).toBe('192.168.1.0');
  });

  it('overlap when one holds an address of the other', () => {
    expect(overlap(subnet('10.0.0.0/8'), subnet('10.217.64.0/20'))).toBe(true);
    expect(overlap(subnet('10.217.79.255'), subnet('10.217.64.0/20'))).toBe(true);
    expect(overlap(subnet('10.217.80.0/20'), subnet('10.217.64.0/20'))).toBe(false);
  });

  it('that no bridge can have are refused', () => {
    for (const text of ['10.1.1.1/24', '10.0.0.0/30', '10.0.0.0', '10.0.0.256/24', 'fd00::/64', '10.0.0.0/033', '']) {
      expect(() => bridgeSubnet(text), text).toThrow('Cannot use the subnet');
    }
  });
});
