import type { Item } from './group.ts';
import { hasApt, packageRemedy } from './remedies.ts';

/** What nixpkgs calls what is in a package of Debian. */
const NIXPKGS: Readonly<Record<string, string>> = {
  'containernetworking-plugins': 'cni-plugins',
  crun: 'crun',
  'erofs-utils': 'erofs-utils',
  iproute2: 'iproute2',
  iptables: 'iptables',
  'qemu-system-arm': 'qemu',
  'qemu-system-x86': 'qemu',
  'util-linux': 'util-linux',
};

/** How to come by packages, by their names in Debian: by hand, and where this is Debian, by this command. */
export async function installation(packages: readonly string[]): Promise<Pick<Item, 'hint' | 'remedy'>> {
  const apt = `apt-get install ${packages.join(' ')}`;
  if (await hasApt()) return { hint: apt, remedy: packageRemedy(packages) };
  return { hint: `${nix(packages)}; on Debian: ${apt}` };
}

/** The packages that a hint names; undefined where it is about something else. */
export function packagesIn(hint: string): string[] | undefined {
  return /^apt-get install ([\w. +-]+)$/.exec(hint)?.[1]?.split(' ');
}

function nix(packages: readonly string[]): string {
  const names = [...new Set(packages.map((name) => NIXPKGS[name] ?? name))];
  return `nix profile install ${names.map((name) => `nixpkgs#${name}`).join(' ')}, or for a try nix-shell -p ${names.join(' ')}`;
}
