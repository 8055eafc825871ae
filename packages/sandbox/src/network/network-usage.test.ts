import { expect, it } from 'vitest';
import { parseNetDev } from './network-usage.ts';

it('network usage is the sum over all interfaces but loopback', () => {
  const text = [
    'Inter-|   Receive                                                |  Transmit',
    ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed',
    '    lo:  999       9    0    0    0     0          0         0      999       9    0    0    0     0       0          0',
    '  eth0: 1000      10    0    0    0     0          0         0      200       2    0    0    0     0       0          0',
    'net1:50 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0',
    '',
  ].join('\n');
  expect(parseNetDev(text)).toEqual({ received: 1050, sent: 207 });
});
