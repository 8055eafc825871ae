import type { NexClient } from '@nex-nix/protocol';
import { CliError } from './cli-error.ts';
import type { Context } from './context.ts';

const NODE_ID = /^N[A-Z2-7]{55}$/;

/**
 * The id of the node that an id or a name stands for.
 *
 * @throws {CliError} CLI_NODE_NOT_FOUND, CLI_NODE_AMBIGUOUS
 */
export async function findNode({ signal }: Context, client: NexClient, text: string): Promise<string> {
  if (NODE_ID.test(text)) return text;
  const { nodes } = await client.pingNodes({ filter: { 'nex.node': text }, signal });
  const [first, ...others] = nodes.map((node) => node.node_id);
  if (first === undefined) {
    throw new CliError('CLI_NODE_NOT_FOUND', `Cannot find node "${text}": no node answers to that id or name`, {
      hint: 'See which nodes there are: nex node list',
    });
  }
  if (others.length === 0) return first;
  throw new CliError('CLI_NODE_AMBIGUOUS', `Cannot tell which node "${text}" is: ${nodes.length} have that name`, {
    hint: `Give the id of one: ${[first, ...others].join(', ')}`,
  });
}
