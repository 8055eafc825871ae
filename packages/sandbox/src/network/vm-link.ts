import { createHash } from 'node:crypto';
import { namespaceFile } from './network-namespace.ts';
import { demand } from './network-command.ts';

/** The interface of the VMM: what the guest sends comes out of it. */
export const TAP = 'tap0';

/** What plugins have made in a namespace. */
export interface Link {
  /** IPv4 addresses, without their prefixes. */
  addresses: readonly string[];
  /** Interface of the namespace that has them. */
  inside: string;
  /** Whom the guest sends everything to. */
  gateways: readonly string[];
}

/** Has a tap device in a namespace that only processes of `user` may open. It is down: nothing goes through it. */
export async function makeTap(namespace: string, user: number): Promise<void> {
  await demand(`make the tap device of "${namespace}"`, ['ip', '-netns', namespace, '-batch', '-'], {
    input: `tuntap add dev ${TAP} mode tap user ${user}\n`,
  });
}

/**
 * Moves the addresses of a namespace behind its tap. The namespace becomes a router with one way to either side, that
 * answers there for whatever is on the other one (proxy ARP). So nothing that a guest says below IPv4 goes any further,
 * nothing that has not one of its addresses as its source (`rp_filter`), and what it sends takes the route that the
 * namespace has, through the firewall of this machine, also to its neighbours at the bridge. No frame is bridged.
 *
 * The interface keeps the addresses, without what makes them the namespace's own: the plugins look for them when they
 * take back what they have made. In the same way the tap has those of the gateways: whoever asks a guest for its MAC address
 * has to have one. Gives the largest packet, in bytes, that passes.
 */
export async function moveBehindTap(namespace: string, { addresses, inside, gateways }: Link): Promise<number> {
  const command = ['nsenter', `--net=${namespaceFile(namespace)}`, 'sh', '-ec', MOVE, 'sh', TAP, inside];
  const routes = [
    `link set dev ${TAP} up`,
    // A neighbour of nobody asks on behalf of networks without a gateway.
    ...(gateways.length > 0 ? gateways : ['169.254.1.1']).flatMap((gateway) => [
      `addr add ${gateway}/32 dev ${TAP} scope link`,
      `route delete table local local ${gateway} dev ${TAP}`,
    ]),
    ...addresses.flatMap((address) => [
      `route delete table local local ${address} dev ${inside}`,
      `route add ${address}/32 dev ${TAP}`,
    ]),
  ];
  const said = await demand(`move the addresses of "${namespace}" behind its tap device`, command, {
    input: routes.map((line) => `${line}\n`).join(''),
  });
  return Number(said);
}

const MOVE = `
tap=$1 inside=$2
cd /proc/sys/net/ipv4
# First: it sets others anew.
echo 1 >ip_forward
for which in all default "$inside" "$tap"; do
  echo 0 >"conf/$which/accept_redirects"
  echo 0 >"conf/$which/send_redirects"
  echo 0 >"conf/$which/accept_source_route"
  echo 1 >"conf/$which/rp_filter"
done
for which in "$inside" "$tap"; do
  echo 1 >"conf/$which/proxy_arp"
  echo 0 >"neigh/$which/proxy_delay"
done
mtu=$(ip -o link show dev "$inside" | sed -n 's/.* mtu \\([0-9]*\\) .*/\\1/p')
ip link set dev "$tap" mtu "$mtu"
ip -batch -
echo "$mtu"
`;

/** Bytes that a guest got and sent, as the interface towards the network counts them. */
export async function linkUsage(namespace: string, inside: string): Promise<{ received: number; sent: number }> {
  const command = ['ip', '-netns', namespace, '-json', '-stats', 'link', 'show', 'dev', inside];
  const said = await demand(`read the counters of "${namespace}"`, command);
  const [link] = JSON.parse(said) as { stats64: { rx: { bytes: number }; tx: { bytes: number } } }[];
  return { received: link?.stats64.rx.bytes ?? 0, sent: link?.stats64.tx.bytes ?? 0 };
}

/** An address for the interface of a guest, locally administered. It never leaves its namespace, and tells of nothing. */
export function macOf(namespace: string): string {
  const bytes = createHash('sha256').update(namespace).digest().subarray(0, 5);
  return ['02', ...Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0'))].join(':');
}
