// Every call of our client against Go-like nodes, one of them without nexlets, which makes Go's own client fail.
import type { NatsConnection } from '@nats-io/nats-core';
import { startNatsServer, type TestNatsServer } from '@nex-nix/test-kit';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NexClient } from '../src/index.ts';
import { GoNode, type GoNodeOptions } from './go-node.ts';

let server: TestNatsServer;
let nc: NatsConnection;
const nodes: GoNode[] = [];

beforeEach(async () => {
  server ??= await startNatsServer({ jetstream: false });
  nc = await server.connect();
});

afterEach(async () => {
  for (const node of nodes.splice(0)) {
    expect(node.malformed).toEqual([]);
    await node[Symbol.asyncDispose]();
  }
  await nc.close();
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

async function goNode(options: GoNodeOptions): Promise<GoNode> {
  const node = await GoNode.start(await server.connect(), options);
  nodes.push(node);
  return node;
}

const web = { type: 'native', name: 'web', lifecycle: 'service' as const, runRequest: { uri: 'file:///bin/web' } };

describe('our client and Go nodes', () => {
  it('finds nodes, by tags too, and reads what they say of themselves', async () => {
    await goNode({ id: 'NA', tags: { region: 'lab' } });
    await goNode({ id: 'NB', agents: [], tags: { region: 'home', rack: '7' } });
    const nex = new NexClient(nc, { namespace: 'default' });
    const { nodes, errors } = await nex.pingNodes();
    expect(nodes.map((node) => node.node_id).sort()).toEqual(['NA', 'NB']);
    expect(errors).toEqual([]);
    expect((await nex.pingNodes({ filter: { region: 'lab' } })).nodes.map((node) => node.node_id)).toEqual(['NA']);
    expect((await nex.nodeInfo('NA')).node_agent_summaries).toMatchObject([{ agent_health: 'healthy' }]);
    expect((await nex.nodeInfo('NB')).node_agent_summaries).toBeUndefined();
    const { tags } = await nex.placementTags();
    expect(tags).toMatchObject({ rack: '7', 'nex.lameduck': 'false' });
    expect(['lab', 'home']).toContain(tags['region']);
    expect(await nex.agentIdByName('NA', 'go_exec')).toBe('id-of-go_exec');
    expect(await new NexClient(nc, { timeout: 200 }).agentIdByName('NA', 'unknown')).toBeUndefined();
    await expect(nex.agentIdByName('NA', '')).rejects.toMatchObject({ code: 'NEX_PEER_BAD_REQUEST' });
  });

  it('makes a node lame duck, and knows silence for a tag that it lacks', async () => {
    const node = await goNode({ id: 'NA' });
    const nex = new NexClient(nc, { timeout: 300 });
    await expect(nex.lameduck('NA', { delay: 1_000, tag: { other: 'x' } })).rejects.toMatchObject({
      code: 'NEX_NODE_NOT_FOUND',
    });
    expect(await nex.lameduck('NA', { delay: 90_500 })).toMatchObject({ success: true });
    expect(node.state).toBe('lameduck');
  });

  it('leaves out a node that is about to end, though it bids, as long as there is another', async () => {
    const leaving = await goNode({ id: 'NA' });
    const staying = await goNode({ id: 'NB' });
    const nex = new NexClient(nc);
    await nex.lameduck('NA', { delay: 60_000 });
    for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) await nex.startWorkload({ ...web, name });
    expect([leaving.workloads.size, staying.workloads.size]).toEqual([0, 6]);
  });

  it('starts, lists, reads, clones and stops a workload', async () => {
    const one = await goNode({ id: 'NA', tags: { region: 'lab' } });
    const two = await goNode({ id: 'NB', tags: { region: 'home' } });
    await goNode({ id: 'NC', agents: [] });
    const nex = new NexClient(nc, { namespace: 'team' });
    const { id } = await nex.startWorkload({ ...web, tags: { region: 'lab' }, labels: { app: 'shop' } });
    expect(one.workloads.has(id)).toBe(true);

    const { workloads, errors, nodes } = await nex.listWorkloads();
    expect(workloads).toMatchObject([{ id, name: 'web', namespace: 'team', tags: { region: 'lab', app: 'shop' } }]);
    expect(errors).toEqual([]);
    expect(nodes).toBe(3);
    expect((await nex.listWorkloads({ filter: ['other'] })).workloads).toEqual([]);

    const found = await nex.getWorkload(id);
    expect(found?.request).toMatchObject({ name: 'web', run_request: JSON.stringify(web.runRequest) });
    expect(found).not.toHaveProperty('environment');

    const system = new NexClient(nc);
    const clone = await system.cloneWorkload(id, { tags: { region: 'home' }, stop: true });
    expect(clone.stopped).toMatchObject({ id, stopped: true });
    expect(one.workloads.size).toBe(0);
    expect(two.workloads.get(clone.id)?.request).toMatchObject({ namespace: 'team', tags: { region: 'home' } });
    expect(await system.stopWorkload(clone.id)).toMatchObject({ stopped: true });
    expect(two.workloads.size).toBe(0);
  });

  it('knows quickly that there is no such workload', async () => {
    await goNode({ id: 'NA' });
    await goNode({ id: 'NB', agents: [] });
    const nex = new NexClient(nc);
    const started = Date.now();
    expect(await nex.getWorkload('unknown')).toBeUndefined();
    await expect(nex.cloneWorkload('unknown')).rejects.toMatchObject({ code: 'NEX_WORKLOAD_NOT_FOUND' });
    await expect(nex.stopWorkload('unknown')).rejects.toMatchObject({ code: 'NEX_WORKLOAD_NOT_FOUND' });
    expect(Date.now() - started).toBeLessThan(3_000);
  });

  it("hands on what a nexlet says through Go's node, and refuses another namespace's workloads", async () => {
    const node = await goNode({ id: 'NA' });
    const nex = new NexClient(nc, { namespace: 'team' });
    await expect(nex.startWorkload({ ...web, runRequest: { uri: 'broken' } })).rejects.toMatchObject({
      code: 'NEX_PEER_FAILED',
      message: 'exec format error',
    });
    const { id } = await nex.startWorkload(web);
    const other = new NexClient(nc, { namespace: 'other' });
    await expect(other.stopWorkload(id)).rejects.toMatchObject({ code: 'NEX_WORKLOAD_NOT_FOUND' });
    expect(await other.getWorkload(id)).toBeUndefined();
    expect(node.workloads.size).toBe(1);
  });

  it('says which lifecycles are offered, when a nexlet registered without any', async () => {
    await goNode({ id: 'NA', lifecycles: null });
    await expect(new NexClient(nc).startWorkload(web)).rejects.toThrow('1 bid, for the lifecycles none');
  });

  it('stops a workload of a node that names no namespaces', async () => {
    await goNode({ id: 'NA', namesNamespaces: false });
    const nex = new NexClient(nc);
    const { id } = await nex.startWorkload(web);
    expect(await nex.stopWorkload(id)).toMatchObject({ stopped: true });
  });

  it('waits for a node whose dead nexlet makes it slow', async () => {
    await goNode({ id: 'NA' });
    const slow = await goNode({ id: 'NB', tags: { slow: 'yes' }, delay: 900 });
    const nex = new NexClient(nc);
    const { id } = await nex.startWorkload({ ...web, tags: { slow: 'yes' } });
    expect((await nex.listWorkloads()).workloads).toHaveLength(1);
    expect(await nex.getWorkload(id)).toMatchObject({ request: { name: 'web' } });
    await nex.stopWorkload(id);
    expect(slow.workloads.size).toBe(0);
  });
});
