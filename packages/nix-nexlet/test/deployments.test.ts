import { join } from 'node:path';
import { NatsCache } from '@nex-nix/cache';
import { type Logger, silentLogger } from '@nex-nix/nexlet';
import { LocalStore, parseStorePath } from '@nex-nix/nix';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Network, openNode, startNetwork, TOOLS, User } from './bed.ts';

const WAIT = 'while :; do sleep 0.02; done';

describeWith(TOOLS, 'the closure of a running workload', () => {
  let network: Network;
  let user: User;

  beforeAll(async () => {
    network = await startNetwork();
    user = new User(network);
  });
  afterAll(() => network[Symbol.asyncDispose]());

  const stateDir = (name: string) => join(network.dir.path, name);
  /** A node, and its store as another process would see it. */
  const collectAll = async (name: string): Promise<readonly string[]> => {
    await using store = await LocalStore.open({ dir: join(stateDir(name), 'store') });
    return (await store.collectGarbage({ maxBytes: 0 })).removed;
  };

  it("stays in the node's store until it ends, also when a later node adopts it", async () => {
    const options = { nc: network.nc, key: network.key, stateDir: stateDir('held') };
    let id: string;
    {
      await using _node = await openNode({ ...options, onClose: 'leave' });
      id = await user.start(WAIT);
      await user.state(id, 'running');
      expect(await collectAll('held')).toEqual([]);
    }
    await using _node = await openNode(options);
    await user.state(id, 'running');
    expect(await collectAll('held')).toEqual([]);
    await user.client.stopWorkload(id);
    expect(await collectAll('held')).toContain(network.shell);
  });

  it('is pinned in the cache under the name of its deployment, and stays so after a stop', async () => {
    const cache = await NatsCache.open(network.nc);
    await using _node = await openNode({
      nc: network.nc,
      key: network.key,
      stateDir: stateDir('pinned'),
      pins: cache,
    });
    const id = await user.start(WAIT);
    await user.state(id, 'running');
    const pinned = () => cache.resolvePin('deployment.default.job');
    await waitFor('the pin', pinned);
    await user.client.stopWorkload(id);
    expect(await pinned()).toBe(network.shell);
    await expect(cache.remove([parseStorePath(network.shell)])).rejects.toMatchObject({ kind: 'refused' });
  });

  it('runs all the same when it cannot be pinned, and the log says why', async () => {
    const warnings: string[] = [];
    const logger: Logger = { ...silentLogger, child: () => logger, warn: (_fields, text) => warnings.push(text) };
    const cache = await NatsCache.open(network.nc);
    const options = { nc: network.nc, key: network.key, stateDir: stateDir('unpinned') };
    {
      await using _node = await openNode(options);
      await user.state(await user.start(WAIT), 'running');
    }
    // What the node has in its own store runs without the cache.
    await cache.remove([parseStorePath(network.shell)], { force: true });
    await using _node = await openNode({ ...options, pins: cache, logger });
    await user.state(await user.start(WAIT), 'running');
    const warning = await waitFor('the warning', () => warnings.find((text) => text.includes('not pinned')));
    expect(warning).toMatch(/not pinned in the cache as "deployment\.default\.job".*: Cannot find/);
    expect(warning).toContain(network.shell);
  });
});
