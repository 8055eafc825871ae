import { chmod, copyFile, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jetstreamManager } from '@nats-io/jetstream';
import { CacheService } from '@nex-nix/cache';
import { formatPublicKey, generateSecretKey, publicKeyOf } from '@nex-nix/nix';
import {
  describeWith,
  findTool,
  type RunningProcess,
  startNatsServer,
  tempDir,
  type TestNatsServer,
  waitFor,
} from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { findTraces } from '../../../test/e2e/leftovers.ts';
import { runNex, startNex } from '../../../test/e2e/nex.ts';
import { expectFailure } from './bed.ts';

vi.setConfig({ testTimeout: 90_000, hookTimeout: 90_000 });

interface NodeBed extends AsyncDisposable {
  readonly folder: string;
  readonly server: TestNatsServer;
  readonly node: RunningProcess;
  /** A static program that does nothing for as many seconds as its argument says. */
  readonly sleep: string;
  nex(...args: string[]): ReturnType<typeof runNex>;
  json<T>(...args: string[]): Promise<T>;
}

/** A server, and a node of a user of its own, who has these permissions; who does not say who it is may do everything. */
async function startNodeBed(permissions: string): Promise<NodeBed> {
  const stack = new AsyncDisposableStack();
  try {
    const folder = stack.use(await tempDir('nex-deploy-'));
    const users = `{ user: admin, password: p }, { user: node, password: p, permissions { ${permissions} } }`;
    const server = stack.use(
      await startNatsServer({ config: `authorization { users [${users}] }\nno_auth_user: admin` }),
    );
    const url = server.url.replace('nats://', 'nats://node:p@');
    const state = ['--state-dir', join(folder.path, 'node')];
    const node = stack.use(startNex(['-s', url, '--json', 'node', 'up', ...state]));
    stack.defer(async () => {
      node.kill('SIGTERM');
      await node.exited;
    });
    await nodeReady(node);
    const sleep = join(folder.path, 'sleep');
    await copyFile(findTool('busybox') ?? '', sleep);
    const nex = (...args: string[]) => runNex(['-s', server.url, ...args]);
    return {
      folder: folder.path,
      server,
      node,
      sleep,
      nex,
      async json<T>(...args: string[]) {
        const { code, stdout, stderr } = await nex('--json', ...args);
        expect({ code, stderr }, stdout).toEqual({ code: 0, stderr: '' });
        return JSON.parse(stdout) as T;
      },
      async [Symbol.asyncDispose]() {
        await stack.disposeAsync();
        expect(await findTraces([folder.path])).toMatchObject({ processes: [], mounts: [], cgroups: [] });
      },
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

async function nodeReady(node: RunningProcess): Promise<void> {
  const ready = waitFor('the node', () => node.output().includes('nex node ready'), { timeout: 60_000 });
  const ended = node.exited.then(() => {
    throw new Error(`The node has ended:\n${node.output()}`);
  });
  await Promise.race([ready, ended]);
}

interface Started {
  id: string;
  storePath: string;
}

const TOOLS = ['nats-server', 'crun', 'busybox'];

describeWith(TOOLS, 'deployments and the cache', () => {
  let bed: NodeBed;
  let path: string;

  beforeAll(async () => {
    bed = await startNodeBed('publish: ">"');
    const { storePath } = await bed.json<Started>('devrun', bed.sleep, '--name', 'my sleeper', '--argv', '1000');
    path = storePath;
  });
  afterAll(() => bed[Symbol.asyncDispose]());

  it('what runs is pinned, and stays when everything else is collected', async () => {
    const pin = 'cache:deployment.system.my_20sleeper';
    await waitFor('the pin', async () => (await bed.nex('cache', 'info', pin)).code === 0, { timeout: 30_000 });
    expect(await bed.json('cache', 'info', pin)).toMatchObject({ storePath: path });
    await bed.json('cache', 'gc', '--older-than', '0s', '--grace', '0s');
    expect(await bed.json('cache', 'info', path)).toMatchObject({ storePath: path });
  });

  it('devrun and workload start run what is pinned under a name', async () => {
    await bed.json('cache', 'pin', 'nap', path);
    const run = await bed.json<Started>('devrun', 'cache:nap', '--argv', '1000');
    expect(run.storePath).toBe(path);
    const request = ['--start-request', '{"argv":["1000"]}'];
    const started = await bed.json<Started>('workload', 'start', 'cache:nap', '--name', 'second', ...request);
    const listed = await bed.json<object[][]>('workload', 'list', '--filter', `${run.id},${started.id}`);
    const workloads = listed.flat();
    expect(workloads).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          name: 'nap',
          workload_state: 'running',
          metadata: expect.objectContaining({ store_path: path }) as object,
        }),
        expect.objectContaining({
          name: 'second',
          workload_state: 'running',
          metadata: expect.objectContaining({ store_path: path }) as object,
        }),
      ]),
    );
  });

  it('devrun stops what runs under the name before, and says so; run starts what is in the cache beside it', async () => {
    const request = JSON.stringify({ argv: ['1000'], stop: { signal: 'SIGKILL' } });
    const { id } = await bed.json<Started>('workload', 'start', path, '--name', 'twin', '--start-request', request);
    const asleep = ['--name', 'twin', '--argv', '1000'];
    const { stderr } = await bed.nex('devrun', bed.sleep, ...asleep);
    expect(stderr).toContain(
      `Workload twin (${id}) already exists on the target. Attempting to stop it\n🚀 Workload 'twin' accepted. `,
    );
    const second = await bed.json<Started>('run', path, ...asleep);
    const listed = (await bed.json<{ id: string }[][]>('workload', 'list', '--filter', 'twin')).flat();
    expect(listed).toHaveLength(2);
    expect(listed.map((workload) => workload.id)).toContain(second.id);
    expect(listed.map((workload) => workload.id)).not.toContain(id);
  });

  it('run of a path that is not in the cache: exit code 3, how to get it there', async () => {
    const absent = '/nix/store/00000000000000000000000000000000-absent-1.0';
    expectFailure(
      await bed.nex('run', absent),
      3,
      /error: .*-absent-1\.0": it is not in the NATS cache\nhint: +Push it/,
    );
  });

  it.each([
    ['devrun', 'cache:nothing'],
    ['workload', 'start', 'cache:nothing'],
  ])('%s %s: exit code 3 when nothing is pinned under that name', async (...args) => {
    expectFailure(await bed.nex(...args), 3, /error: .*"cache:nothing".*\nhint: .*nex cache pins/);
  });

  it('a chunk that the cache has lost comes back while somebody else pulls, from a node that runs the path', async () => {
    const jsm = await jetstreamManager(await bed.server.connect());
    const { state } = await jsm.streams.info('NIX_CHUNKS');
    await jsm.streams.deleteMessage('NIX_CHUNKS', state.first_seq);
    const to = ['--to', join(bed.folder, 'elsewhere'), '--trust-cache'];
    expect(await bed.nex('cache', 'pull', path, ...to)).toMatchObject({ code: 0, stderr: '' });
    expect(await readFile(join(bed.folder, 'elsewhere', path, 'bin/sleep'))).toEqual(await readFile(bed.sleep));
    expect(bed.node.output()).toMatch(/brought a lost chunk back into the cache/);
    expect((await bed.nex('cache', 'verify')).stdout).toMatch(/: 0 damaged/);
  });

  it('all that the cache has lost comes back from a node that runs it', async () => {
    const jsm = await jetstreamManager(await bed.server.connect());
    await jsm.streams.purge('NIX_CHUNKS');
    const to = ['--to', join(bed.folder, 'healed'), '--trust-cache'];
    await waitFor('the chunks', async () => (await bed.nex('cache', 'pull', path, ...to)).code === 0, {
      timeout: 60_000,
    });
    const { stdout } = await bed.nex('cache', 'verify');
    expect(stdout).toMatch(/: 0 damaged/);
  });
});

describeWith(TOOLS, 'a node that may not pin', () => {
  it('says so in its log, and runs what it is asked for', async () => {
    await using bed = await startNodeBed('publish: { deny: "$NIXCACHE.pin.>" }');
    await bed.json<Started>('devrun', bed.sleep, '--argv', '1000');
    const line = await waitFor('the warning', () => bed.node.output().match(/^.*not pinned.*$/m)?.[0]);
    expect(JSON.parse(line)).toMatchObject({
      level: 40,
      code: 'CACHE_PERMISSION_DENIED',
      msg: expect.stringContaining('"deployment.system.sleep"'),
    });
    expect(await bed.json('cache', 'pins')).toEqual([]);
  });
});

describeWith(TOOLS, 'the key of a node', () => {
  it('is the one of --cache-key-file; a file that is not there: exit code 2, how to make one', async () => {
    await using folder = await tempDir('nex-deploy-');
    await using server = await startNatsServer();
    const key = join(folder.path, 'key');
    const up = [
      '-s',
      server.url,
      '--json',
      'node',
      'up',
      '--state-dir',
      join(folder.path, 'node'),
      '--cache-key-file',
      key,
    ];
    const without = await runNex(up);
    expect(without.code).toBe(2);
    expect(JSON.parse(without.stdout)).toMatchObject({
      error: { hint: `nex cache keygen --name cache.example.org-1 --out ${key}` },
    });

    for (const [content, why] of [
      ['garbage', 'it is no secret key'],
      [formatPublicKey(publicKeyOf(generateSecretKey('public-1'))), 'it is no secret key'],
    ] as const) {
      await writeFile(key, content);
      const run = await runNex(up);
      expect(run.code).toBe(2);
      expect(JSON.parse(run.stdout)).toMatchObject({
        error: {
          message: `Cannot use the key of the cache in "${key}": ${why}`,
          hint: expect.stringContaining('keygen'),
        },
      });
    }
    await rm(key);

    const made = await runNex(['cache', 'keygen', '--name', 'cache.example.org-1', '--out', key]);
    await chmod(key, 0o640);
    // Somebody else signs with another key.
    const secretKey = generateSecretKey('other-1');
    const other = await CacheService.start(await server.connect(), { secretKey });
    const node = startNex(up);
    try {
      await nodeReady(node);
      expect(node.output()).toContain(`chmod 600 ${key}`);
      expect(node.output()).toMatch(/"other":"other-1:.*another cache service of this account signs with another key/);
      await other[Symbol.asyncDispose]();
      const { stdout } = await runNex(['-s', server.url, '--json', 'cache', 'info']);
      expect(JSON.parse(stdout)).toMatchObject({ publicKey: made.stdout.trim() });
    } finally {
      await other[Symbol.asyncDispose]();
      node.kill('SIGTERM');
      await node.exited;
    }
  });
});
