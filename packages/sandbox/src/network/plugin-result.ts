import { isIPv4 } from 'node:net';
import type { AttachmentRecord } from './attachment-records.ts';
import type { Connection, NetworkResult } from './cni-network.ts';

/** What plugins are told of a sandbox that is to be connected, or was. */
export function connectionOf({ containerId, ports }: AttachmentRecord, namespace: string): Connection {
  const portMappings = ports.map((port) => ({ hostPort: port, containerPort: port, protocol: 'tcp' }));
  return { containerId, namespace, capabilities: ports.length === 0 ? {} : { portMappings } };
}

/** Addresses of a sandbox, without their prefixes. */
export function addressesOf({ ips = [] }: NetworkResult): string[] {
  return ips.flatMap(({ address }) => address.split('/')[0] ?? []);
}

/** The interface that plugins have made in the namespace. */
export function insideOf({ interfaces = [] }: NetworkResult): string | undefined {
  return interfaces.find(({ sandbox = '' }) => sandbox !== '')?.name;
}

/** What a guest has to know: its IPv4 addresses with their prefixes, and whom it sends everything to. */
export function ipv4Of({ ips = [] }: NetworkResult): { addresses: string[]; gateways: string[] } {
  const own = ips.filter(({ address }) => isIPv4(address.split('/')[0] ?? ''));
  return {
    addresses: own.map(({ address }) => address),
    gateways: [...new Set(own.flatMap(({ gateway = [] }) => gateway))],
  };
}
