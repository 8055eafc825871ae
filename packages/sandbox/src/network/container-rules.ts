import { chainOf, changeRules, readRules, targetOf } from './iptables.ts';

/**
 * Rules that plugins left in the nat table, by container id. The plugins `bridge` and `portmap` name it in the comment of
 * each rule that leads to a chain made for one container: `name: "<network>" id: "<container id>"`, and for ports
 * `dnat name: …`. A DEL whose network namespace is gone leaves those of `bridge` where they are.
 */
export async function containerChains(): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  for (const line of await readRules('nat')) {
    const id = containerOf(line);
    const chain = targetOf(line);
    if (id === undefined || !chain?.startsWith('CNI-') || isShared(chain)) continue;
    found.set(id, [...new Set([...(found.get(id) ?? []), chain])]);
  }
  return found;
}

/** Removes the chains of a container, and the rules that lead to them. */
export async function removeContainerChains(containerId: string): Promise<void> {
  const rules = await readRules('nat');
  const chains = new Set(
    rules
      .filter((line) => containerOf(line) === containerId)
      .flatMap((line) => targetOf(line) ?? [])
      .filter((chain) => chain.startsWith('CNI-') && !isShared(chain)),
  );
  const jumps = rules.filter((line) => chains.has(targetOf(line) ?? '') && !chains.has(chainOf(line) ?? ''));
  await changeRules('nat', [
    ...jumps.map((line) => line.replace(/^-A/, '-D')),
    ...[...chains].map((chain) => `-F ${chain}`),
    ...[...chains].map((chain) => `-X ${chain}`),
  ]);
}

function containerOf(line: string): string | undefined {
  return / id: \\"([A-Za-z0-9][A-Za-z0-9_.-]*)\\"/.exec(line)?.[1];
}

/** Chains of the plugins that hold what leads to those of all containers. */
function isShared(chain: string): boolean {
  return chain.startsWith('CNI-HOSTPORT-');
}
