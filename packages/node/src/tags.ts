import { availableParallelism } from 'node:os';
import type { Tags } from '@nex-nix/protocol';
import { NodeError } from './node-error.ts';

/** Tags with this prefix are the node's own. */
const RESERVED_PREFIX = 'nex.';

const GO_SYSTEMS: Readonly<Record<string, string>> = { win32: 'windows' };
const GO_ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' };

/**
 * The tags of a node: those given and those that every node has, named as Go names them.
 *
 * @throws {NodeError} NODE_OPTION_INVALID
 */
export function nodeTags(given: Tags, { name, nexus }: { name: string; nexus: string }): Tags {
  const reserved = Object.keys(given).find((key) => key.toLowerCase().startsWith(RESERVED_PREFIX));
  if (reserved !== undefined) {
    const message = `Cannot give a node the tag "${reserved}": can not use reserved tag prefix: ${RESERVED_PREFIX}`;
    throw new NodeError('NODE_OPTION_INVALID', message);
  }
  return {
    ...given,
    'nex.os': GO_SYSTEMS[process.platform] ?? process.platform,
    'nex.arch': GO_ARCHITECTURES[process.arch] ?? process.arch,
    'nex.cpucount': String(availableParallelism()),
    'nex.lameduck': 'false',
    'nex.nexus': nexus,
    'nex.node': name,
  };
}

/** Whether `tags` has everything that `wanted` names, with the same values. */
export function hasTags(tags: Tags, wanted: Tags): boolean {
  return Object.entries(wanted).every(([key, value]) => Object.hasOwn(tags, key) && tags[key] === value);
}
