export {
  type AgentScope,
  type CredentialTtl,
  fullAccessMinter,
  type Minter,
  signingKeyMinter,
  type SigningKeyMinterOptions,
  type WorkloadScope,
} from './minter.ts';
export { NodeError, type NodeErrorCode } from './node-error.ts';
export type { NodeOptions } from './node-options.ts';
export { type Node, type NodeEnd, startNode } from './start-node.ts';
