import { getSystemErrorName } from 'node:util';
import { findInterface } from './interface.ts';
import { ACK_BYTES, ackErrno, addAddress, addDefaultRoute, changeLink, linkUp } from './rtnetlink.ts';
import { FIRST_FD, type SyscallList } from '../kernel/syscall-list.ts';
import { refused } from '../refused.ts';
import type { GuestNetwork } from '../../protocol/messages.ts';

const LOOPBACK = 1;
const [AF_NETLINK, SOCK_RAW, NETLINK_ROUTE] = [16, 3, 0];

interface Step {
  what: string;
  message: Buffer;
}

/**
 * Adds the calls that set the network up: loopback, and the interface when there is to be one.
 *
 * @returns What looks at the output of the calls, and throws GUEST_REFUSED when the kernel has refused something.
 */
export function configureNetwork(list: SyscallList, network: GuestNetwork | undefined): (output: Buffer) => void {
  const steps = [{ what: 'the loopback interface', message: linkUp(LOOPBACK) }, ...(network ? stepsOf(network) : [])];
  const acks = steps.map(() => Buffer.alloc(ACK_BYTES));
  list.call('socket', AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  for (const [index, { message }] of steps.entries()) {
    list.call('sendto', FIRST_FD, message, message.length, 0, 0, 0);
    list.call('recvfrom', FIRST_FD, acks[index] ?? message, ACK_BYTES, 0, 0, 0);
  }
  list.call('close', FIRST_FD);
  for (const ack of acks) list.call('write', 1, ack, ACK_BYTES);
  return (output) => {
    for (const [index, { what }] of steps.entries()) {
      const errno = ackErrno(output.subarray(index * ACK_BYTES, (index + 1) * ACK_BYTES));
      if (errno !== 0) throw refused('failed', `Cannot set up ${what}: ${getSystemErrorName(-errno)}`);
    }
  };
}

function stepsOf({ mac, mtu, addresses, gateways }: GuestNetwork): Step[] {
  const device = findInterface();
  if (device === undefined) throw refused('failed', 'Cannot set up the network: this guest has no interface');
  const { index, name } = device;
  try {
    return [
      { what: `the address ${mac} of the interface ${name}`, message: changeLink(index, { mac, mtu }) },
      { what: `the interface ${name}`, message: linkUp(index) },
      ...addresses.map((address) => ({ what: `the address ${address}`, message: addAddress(index, address) })),
      ...gateways.map((gateway) => ({ what: `the gateway ${gateway}`, message: addDefaultRoute(index, gateway) })),
    ];
  } catch (error) {
    if (error instanceof RangeError) throw refused('invalid', `Cannot set up the network: ${error.message}`);
    throw error;
  }
}
