import { type NatsConnectionData, natsConnectionData } from '@nex-nix/protocol';

export interface AgentScope {
  readonly nodeId: string;
  readonly nexus: string;
  readonly agentId: string;
}

export interface WorkloadScope {
  readonly namespace: string;
  readonly workloadId: string;
  /** Of the workload; what its subjects may be named after. */
  readonly name?: string;
}

/** Whose credentials: a nexlet's, or a workload's. */
export type Holder =
  | { readonly kind: 'agent'; readonly nodeId: string; readonly id: string }
  | { readonly kind: 'workload'; readonly id: string };

/** Makes the credentials that a node hands out. */
export interface Minter {
  /** For a nexlet, to register with. */
  registration(scope: AgentScope): Promise<NatsConnectionData>;
  /** For a registered nexlet. */
  agent(scope: AgentScope): Promise<NatsConnectionData>;
  workload(scope: WorkloadScope): Promise<NatsConnectionData>;
  /**
   * Makes everything worthless that was minted for a holder, whoever minted it, and cuts its connections. Resolves when
   * the servers know. Absent: credentials hold until they expire.
   */
  revoke?(holder: Holder): Promise<void>;
}

/** How NATS is reached by those that get credentials. */
export interface ServerAccess {
  /** URLs without credentials. Empty: the server on the machine of whoever connects. */
  readonly servers: readonly string[];
  readonly tls?: TlsFiles | undefined;
}

/** Paths of PEM files, which must be there on the machine of whoever connects. */
export interface TlsFiles {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  /** Whether the handshake comes before anything else. */
  readonly first?: boolean;
}

/** Connection data with servers and TLS filled in. */
export function accessData(
  { servers, tls }: ServerAccess,
  identity: Partial<NatsConnectionData> = {},
): NatsConnectionData {
  return natsConnectionData({
    nats_servers: [...servers],
    tls_ca: tls?.ca ?? '',
    tls_cert: tls?.cert ?? '',
    tls_key: tls?.key ?? '',
    tls_first: tls?.first ?? false,
    ...identity,
  });
}

/** Names the servers and nothing else. For servers that let everybody in. */
export function fullAccessMinter(access: ServerAccess): Minter {
  const data = async () => accessData(access);
  return { registration: data, agent: data, workload: data };
}
