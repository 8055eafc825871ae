export type { LocalNexletSpec } from './agents/local-program.ts';
export {
  type AgentScope,
  fullAccessMinter,
  type Holder,
  type Minter,
  type ServerAccess,
  type TlsFiles,
  type WorkloadScope,
} from './credentials/minter.ts';
export { nkeyMinter, type NkeyMinterOptions } from './credentials/nkey-minter.ts';
export type { WorkloadGrants } from './credentials/permissions.ts';
export { RevocationLedger } from './credentials/revocation-ledger.ts';
export { accountRevoker, type AccountRevokerOptions, type Revoker } from './credentials/revoker.ts';
export {
  type CredentialTtl,
  DEFAULT_TTL,
  signingKeyMinter,
  type SigningKeyMinterOptions,
} from './credentials/signing-key-minter.ts';
export { formatMetrics, type Metric, METRICS_TYPE, type Sample } from './metrics/metric.ts';
export { MetricsServer, type MetricsServerOptions } from './metrics/metrics-server.ts';
export { ProcessMetrics } from './metrics/process-metrics.ts';
export { ensureFeedStream } from './feed-stream.ts';
export { NodeError, type NodeErrorCode } from './node-error.ts';
export type { EventTarget } from './node-feed.ts';
export type { NodeOptions } from './node-options.ts';
export { type Node, type NodeEnd, startNode } from './start-node.ts';
