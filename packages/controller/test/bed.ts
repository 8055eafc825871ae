import { join } from 'node:path';
import type { NatsConnection } from '@nats-io/nats-core';
import { NexClient, type WorkloadSummary } from '@nex-nix/protocol';
import { type Node, startNode } from '@nex-nix/node';
import { startNatsServer, tempDir, type TestNatsServer, waitFor } from '@nex-nix/test-kit';
import {
  type Controller,
  ControllerError,
  type ControllerOptions,
  type ControllerTimings,
  Deployments,
  type DeploymentStatus,
  runController,
} from '../src/index.ts';
import { Machine } from './memory-nexlet.ts';

/** Quicker than the default ones, in the same order. */
export const QUICK: Partial<ControllerTimings> = {
  ttlMs: 2_000,
  renewMs: 500,
  marginMs: 500,
  idleMs: 100,
  busyMs: 50,
  stallMs: 50,
  lostAfterMs: 1_500,
  endedAfterMs: 300,
};
export const QUICK_POLICY = { stableMs: 300, startTimeoutMs: 2_000 };

export interface BedNode {
  readonly machine: Machine;
  readonly id: string;
  /** The process of the node is gone; what it ran runs on. */
  kill(): Promise<void>;
  /** Starts it again, as the same node. */
  restart(): Promise<void>;
}

export interface Bed extends AsyncDisposable {
  readonly server: TestNatsServer;
  readonly nc: NatsConnection;
  readonly client: NexClient;
  readonly deployments: Deployments;
  readonly nodes: BedNode[];
  addNode(): Promise<BedNode>;
  addController(options?: Partial<ControllerOptions>): Promise<{ controller: Controller; nc: NatsConnection }>;
  /** Replicas that run, as the nodes list them. */
  replicas(name?: string): Promise<WorkloadSummary[]>;
  status(name?: string): Promise<DeploymentStatus | undefined>;
  /** Waits for a status of a deployment. */
  until(what: string, condition: (status: DeploymentStatus) => boolean, name?: string): Promise<DeploymentStatus>;
  /** The versions that the machines run of a deployment, in order. */
  versions(name?: string): string[];
}

/** A server, and nodes with a nexlet that runs nothing. */
export async function startBed(count: number): Promise<Bed> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await tempDir('nex-controller-')).path;
  const server = stack.use(await startNatsServer());
  const nc = await server.connect();
  const client = new NexClient(nc, { namespace: 'shop' });
  const deployments = new Deployments(nc, { namespace: 'shop' });
  const nodes: BedNode[] = [];
  const status = async (name = 'web') => (await deployments.get(name))?.status;
  // nats-server 2.9 leaves reads without an answer while it makes a stream.
  const statusIfThere = async (name: string) => {
    try {
      return await status(name);
    } catch (error) {
      if (error instanceof ControllerError && error.code === 'CONTROLLER_STORE_UNREACHABLE') return undefined;
      throw error;
    }
  };
  const addNode = async (owner: AsyncDisposableStack) => {
    const node = await startBedNode(server, join(folder, `node-${nodes.length}`), `n${nodes.length}`);
    nodes.push(owner.use(node));
    return node;
  };
  for (let at = 0; at < count; at++) await addNode(stack);
  const owned = stack.move();
  return {
    server,
    nc,
    client,
    deployments,
    nodes,
    addNode: () => addNode(owned),
    async addController(options = {}) {
      const own = await server.connect();
      const controller = owned.use(
        runController(own, { id: `controller-${own.info?.client_id}`, timings: QUICK, ...options }),
      );
      return { controller, nc: own };
    },
    async replicas(name = 'web') {
      const { workloads } = await client.listWorkloads({ filter: [name] });
      return workloads.filter(({ workload_state: state }) => state === 'running');
    },
    status,
    versions: (name = 'web') => nodes.flatMap(({ machine }) => machine.versions(name)).sort(),
    async until(what, condition, name = 'web') {
      let last: DeploymentStatus | undefined;
      try {
        return await waitFor(
          what,
          async () => ((last = await statusIfThere(name)) !== undefined && condition(last) ? last : undefined),
          {
            timeout: 25_000,
            interval: 20,
          },
        );
      } catch (error) {
        throw new Error(`${String(error)}; last status: ${JSON.stringify(last)}`, { cause: error });
      }
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function startBedNode(
  server: TestNatsServer,
  stateDir: string,
  name: string,
): Promise<BedNode & AsyncDisposable> {
  const machine = new Machine();
  const start = async () => {
    const nc = await server.connect();
    const node = await startNode(nc, { name, stateDir, nexlets: [machine.nexlet()], version: '1.0.0' });
    return { nc, node };
  };
  let running: { nc: NatsConnection; node: Node } | undefined = await start();
  const { id } = running.node;
  return {
    machine,
    id,
    async kill() {
      await running?.nc.close();
      await running?.node.closed;
      running = undefined;
    },
    async restart() {
      running = await start();
    },
    async [Symbol.asyncDispose]() {
      await running?.node[Symbol.asyncDispose]();
    },
  };
}
