import { createHash } from 'node:crypto';
import { chainOf, changeRules, readRules, targetOf } from './iptables.ts';

/** What the sandboxes at a bridge may do beside reaching outside networks. */
export interface Openings {
  bridge: string;
  /** This machine's address there. */
  gateway: string;
  /** TCP ports of that address that they may reach. */
  ports: readonly number[];
  /** Name servers; where one is this machine itself, or has a link-local address, it may be asked nevertheless. */
  nameservers: readonly string[];
}

/** For addresses that only make sense on one link; clouds answer there with what identifies the machine. */
const LINK_LOCAL = '169.254.0.0/16';

const STATE = '-m conntrack --ctstate';

/**
 * Makes the rules of a bridge, unless they are there already. They come first in INPUT and FORWARD where they refuse, so
 * that no other rule opens what they close; and last in FORWARD where they accept, so that other rules of this machine
 * may still refuse.
 *
 * - To this machine: replies, `ports`, and name servers. Nothing else, whatever address it listens on.
 * - To a sandbox, from outside or from another sandbox: replies, and exposed ports.
 * - From a sandbox to elsewhere: everything but link-local addresses.
 */
export async function ensureFirewall(openings: Openings): Promise<void> {
  const { bridge } = openings;
  const chains = chainsOf(bridge);
  const wanted = rulesOf(openings);
  const present = await readRules('filter');
  if (isPresent(present, bridge, wanted)) return;
  await changeRules('filter', [
    ...jumpsTo(present, Object.values(chains)).map((line) => line.replace(/^-A/, '-D')),
    // With --noflush this empties a chain that exists.
    ...Object.values(chains).map((chain) => `:${chain} - [0:0]`),
    ...wanted,
    `-I INPUT 1 -i ${bridge} -j ${chains.input}`,
    `-I FORWARD 1 -o ${bridge} -j ${chains.forward}`,
    `-I FORWARD 1 -i ${bridge} -j ${chains.forward}`,
    `-A FORWARD -j ${chains.accept}`,
  ]);
}

/** Removes the rules of a bridge. Nothing happens when there are none. */
export async function removeFirewall(bridge: string): Promise<void> {
  const chains = Object.values(chainsOf(bridge));
  const present = await readRules('filter');
  const made = chains.filter((chain) => present.some((line) => line.startsWith(`:${chain} `)));
  await changeRules('filter', [
    ...jumpsTo(present, made).map((line) => line.replace(/^-A/, '-D')),
    ...made.flatMap((chain) => [`-F ${chain}`, `-X ${chain}`]),
  ]);
}

/** Names of the chains of a bridge that are there. */
export async function firewallChains(bridge: string): Promise<string[]> {
  const present = await readRules('filter');
  return Object.values(chainsOf(bridge)).filter((chain) => present.some((line) => line.startsWith(`:${chain} `)));
}

/** At most 28 characters, of which the name of an interface takes at most 15. */
function chainsOf(bridge: string) {
  return { input: `NEX-IN-${bridge}`, forward: `NEX-FWD-${bridge}`, accept: `NEX-OUT-${bridge}` };
}

function rulesOf(openings: Openings): string[] {
  const rules = rulesWithoutMark(openings);
  const mark = createHash('sha256').update(rules.join('\n')).digest('hex').slice(0, 16);
  return [`-A ${chainsOf(openings.bridge).input} -m comment --comment "nex-nix ${mark}"`, ...rules];
}

function rulesWithoutMark({ bridge, gateway, ports, nameservers }: Openings): string[] {
  const { input, forward, accept } = chainsOf(bridge);
  const dns = (chain: string, verdict: string) =>
    nameservers.flatMap((server) =>
      ['udp', 'tcp'].map((protocol) => `-A ${chain} -d ${server} -p ${protocol} --dport 53 -j ${verdict}`),
    );
  return [
    `-A ${input} ${STATE} RELATED,ESTABLISHED -j ACCEPT`,
    ...ports.map((port) => `-A ${input} -d ${gateway} -p tcp --dport ${port} -j ACCEPT`),
    ...dns(input, 'ACCEPT'),
    `-A ${input} -p tcp -j REJECT --reject-with tcp-reset`,
    `-A ${input} -j REJECT`,
    `-A ${forward} ${STATE} RELATED,ESTABLISHED -j RETURN`,
    `-A ${forward} -o ${bridge} ${STATE} DNAT -j RETURN`,
    `-A ${forward} -o ${bridge} -p tcp -j REJECT --reject-with tcp-reset`,
    `-A ${forward} -o ${bridge} -j REJECT`,
    ...dns(forward, 'RETURN'),
    `-A ${forward} -d ${LINK_LOCAL} -p tcp -j REJECT --reject-with tcp-reset`,
    `-A ${forward} -d ${LINK_LOCAL} -j REJECT`,
    `-A ${accept} -i ${bridge} -j ACCEPT`,
    `-A ${accept} -o ${bridge} ${STATE} RELATED,ESTABLISHED,DNAT -j ACCEPT`,
  ];
}

/** Whether the rules are those, and the jumps to them where they belong. What iptables prints differs in spelling. */
function isPresent(present: readonly string[], bridge: string, wanted: readonly string[]): boolean {
  const { input, forward, accept } = chainsOf(bridge);
  const ours = present.filter((line) => [input, forward, accept].includes(chainOf(line) ?? ''));
  const mark = /"nex-nix [0-9a-f]+"/.exec(wanted[0] ?? '')?.[0] ?? '';
  const targets = (chain: string) => present.filter((line) => chainOf(line) === chain).map(targetOf);
  const [first, second, ...others] = targets('FORWARD');
  return (
    ours.length === wanted.length &&
    (ours[0]?.includes(mark) ?? false) &&
    targets('INPUT')[0] === input &&
    first === forward &&
    second === forward &&
    others.includes(accept)
  );
}

function jumpsTo(present: readonly string[], chains: readonly string[]): string[] {
  return present.filter(
    (line) => ['INPUT', 'FORWARD'].includes(chainOf(line) ?? '') && chains.includes(targetOf(line) ?? ''),
  );
}
