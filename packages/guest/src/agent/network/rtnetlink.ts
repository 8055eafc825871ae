import { isIPv4, isIPv6 } from 'node:net';

/** Messages of rtnetlink(7), numbers in the byte order of all machines that there are: little-endian. */

const [RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE] = [16, 20, 24];
const [REQUEST, ACK, REPLACE, CREATE] = [1, 4, 0x100, 0x400];
const [IFF_UP, IFA_F_NODAD] = [1, 2];
const [IFLA_ADDRESS, IFLA_MTU, IFA_ADDRESS, IFA_LOCAL, RTA_OIF, RTA_GATEWAY] = [1, 4, 1, 2, 4, 5];
const [AF_INET, AF_INET6] = [2, 10];

/** Bytes of an acknowledgement up to the error number, which is 0 or negative; see {@link ackErrno}. */
export const ACK_BYTES = 20;

/** The error number in an acknowledgement, 0 for none. */
export function ackErrno(ack: Buffer): number {
  return -ack.readInt32LE(16);
}

/** Sets hardware address and largest packet. */
export function changeLink(index: number, { mac, mtu }: { mac: string; mtu?: number | undefined }): Buffer {
  const attributes = [attribute(IFLA_ADDRESS, Buffer.from(mac.replaceAll(':', ''), 'hex'))];
  if (mtu !== undefined) attributes.push(attribute(IFLA_MTU, uint32(mtu)));
  return message(RTM_NEWLINK, 0, [linkHeader(index, 0), ...attributes]);
}

export function linkUp(index: number): Buffer {
  return message(RTM_NEWLINK, 0, [linkHeader(index, IFF_UP)]);
}

/**
 * Adds an address; it can be used at once, without a look for somebody who has it already.
 *
 * @param address In CIDR notation. Throws RangeError when it is not.
 */
export function addAddress(index: number, address: string): Buffer {
  const { family, bytes, prefix } = parseCidr(address);
  const header = Buffer.from([family, prefix, family === AF_INET6 ? IFA_F_NODAD : 0, 0, ...uint32(index)]);
  return message(RTM_NEWADDR, CREATE | REPLACE, [header, attribute(IFA_LOCAL, bytes), attribute(IFA_ADDRESS, bytes)]);
}

/** A route to everywhere by way of a gateway. Throws RangeError for what is no address. */
export function addDefaultRoute(index: number, gateway: string): Buffer {
  const { family, bytes } = parseAddress(gateway);
  // Main table, set at boot, everywhere, unicast.
  const header = Buffer.from([family, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]);
  return message(RTM_NEWROUTE, CREATE | REPLACE, [
    header,
    attribute(RTA_GATEWAY, bytes),
    attribute(RTA_OIF, uint32(index)),
  ]);
}

function linkHeader(index: number, flags: number): Buffer {
  return Buffer.concat([Buffer.alloc(4), uint32(index), uint32(flags), uint32(flags)]);
}

function message(type: number, flags: number, parts: readonly Uint8Array[]): Buffer {
  const header = Buffer.alloc(16);
  const whole = Buffer.concat([header, ...parts]);
  whole.writeUInt32LE(whole.length, 0);
  whole.writeUInt16LE(type, 4);
  whole.writeUInt16LE(REQUEST | ACK | flags, 6);
  return whole;
}

function attribute(type: number, value: Uint8Array): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt16LE(4 + value.length, 0);
  header.writeUInt16LE(type, 2);
  return Buffer.concat([header, value, Buffer.alloc(-value.length & 3)]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function parseCidr(text: string) {
  const [address = '', length = ''] = text.split('/');
  const parsed = parseAddress(address);
  const prefix = Number(length);
  if (!/^\d+$/.test(length) || prefix > parsed.bytes.length * 8)
    throw new RangeError(`no address with a prefix: ${text}`);
  return { ...parsed, prefix };
}

function parseAddress(text: string): { family: number; bytes: Buffer } {
  if (isIPv4(text)) return { family: AF_INET, bytes: Buffer.from(text.split('.').map(Number)) };
  if (!isIPv6(text) || text.includes('.') || text.includes('%')) throw new RangeError(`no address: ${text}`);
  const [head = '', tail] = text.split('::');
  const groups = (part: string) => (part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16)));
  const [before, after] = [groups(head), groups(tail ?? '')];
  const all = [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
  return { family: AF_INET6, bytes: Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff])) };
}
