import { SandboxError } from '../sandbox-error.ts';

/** A range of IPv4 addresses. */
export interface Subnet {
  /** Lowest address, as a number. */
  first: number;
  bits: number;
}

/** Parses `10.1.0.0/16`; undefined when it is none. Bits behind the prefix are dropped. */
export function parseSubnet(text: string): Subnet | undefined {
  const [address = '', prefix = '32'] = text.split('/');
  const number = parseAddress(address);
  const bits = /^\d{1,2}$/.test(prefix) ? Number(prefix) : 33;
  if (number === undefined || bits > 32) return undefined;
  const size = 2 ** (32 - bits);
  return { first: number - (number % size), bits };
}

/** The `n`th address of a range. */
export function addressIn({ first }: Subnet, n: number): string {
  const address = first + n;
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}

/** Whether two ranges have an address in common. */
export function overlap(a: Subnet, b: Subnet): boolean {
  return a.first < b.first + 2 ** (32 - b.bits) && b.first < a.first + 2 ** (32 - a.bits);
}

/** As {@link parseSubnet}, for a bridge: private addresses, at least two of them beside the first and the last. */
export function bridgeSubnet(text: string): Subnet {
  const subnet = parseSubnet(text);
  const isWhole = subnet !== undefined && `${addressIn(subnet, 0)}/${subnet.bits}` === text;
  if (isWhole && subnet.bits >= 8 && subnet.bits <= 29) return subnet;
  const message = `Cannot use the subnet ${JSON.stringify(text)} for a bridge: expected an IPv4 range of 8 to 29 bits`;
  throw new SandboxError('SANDBOX_NETWORK_FAILED', message, { hint: 'Write it like 10.217.64.0/20' });
}

function parseAddress(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256)) return undefined;
  return parts.reduce((sum, part) => sum * 256 + Number(part), 0);
}
