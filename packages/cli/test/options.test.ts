import { mkdir, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { nkeys } from '@nats-io/nats-core';
import {
  describeWith,
  startNatsServer,
  startProcess,
  type TempDir,
  tempDir,
  type TestNatsServer,
} from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { NEX } from '../../../test/e2e/nex.ts';
import { expectFailure } from './bed.ts';
import { ScriptedNode } from './scripted-node.ts';

vi.setConfig({ testTimeout: 30_000 });

const USER = nkeys.createUser();
const SEED = new TextDecoder().decode(USER.getSeed());

describeWith(['nats-server'], 'where nex connects, and what configuration files say', () => {
  let server: TestNatsServer;
  let folder: TempDir;

  beforeAll(async () => {
    folder = await tempDir('nex-cli-');
    const users = `{ user: ann, password: p }, { nkey: ${USER.getPublicKey()} }`;
    server = await startNatsServer({ config: `authorization { users [${users}] }`, jetstream: false });
    const nc = await server.connect({ user: 'ann', pass: 'p' });
    // oxlint-disable-next-line no-new -- it serves until the connection ends
    new ScriptedNode(nc, { name: 'scripted' });
    await nc.flush();
    const contexts = join(folder.path, '.config/nats/context');
    await mkdir(contexts, { recursive: true });
    const context = { url: server.url, user: 'ann', password: 'p' };
    await writeFile(join(contexts, 'Good.json'), JSON.stringify(context));
    await writeFile(join(contexts, 'Wrong.json'), JSON.stringify({ ...context, password: 'wrong' }));
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  interface Surroundings {
    env?: Record<string, string>;
    /** What is in ./config.json. */
    config?: unknown;
  }
  let runs = 0;
  const nexWith = async ({ env = {}, config }: Surroundings, ...args: string[]) => {
    const cwd = join(folder.path, `cwd-${++runs}`);
    await mkdir(cwd);
    if (config !== undefined) {
      await writeFile(join(cwd, 'config.json'), typeof config === 'string' ? config : JSON.stringify(config));
    }
    const own = { PATH: process.env['PATH'], HOME: folder.path, NO_COLOR: '1', ...env };
    await using run = startProcess(process.execPath, [NEX, ...args], { cwd, env: own });
    const { code } = await run.exited;
    return { code, stdout: run.stdout(), stderr: run.stderr() };
  };
  const LIST = ['node', 'list'];
  const reached = { code: 0, stdout: expect.stringContaining('scripted') as string, stderr: '' };
  const refused = { code: 4, stdout: '', stderr: expect.stringContaining('the server refuses') as string };

  it('takes server and user from flags in both forms, from the environment, a context and a configuration file', async () => {
    const { url } = server;
    const nats = { servers: [url], user: 'ann', password: 'p' };
    const results = await Promise.all([
      nexWith({}, `--nats.servers=${url}`, '--nats.user=ann', '--nats.password=p', ...LIST),
      nexWith({}, ...LIST, '-s', url, '--nats.nkey', USER.getPublicKey(), '--nats.seed', SEED),
      nexWith({ env: { NATS_URL: url, NATS_USER: 'ann', NATS_PASSWORD: 'p' } }, ...LIST),
      nexWith({}, '--nats.context', 'Good', ...LIST),
      nexWith({ env: { NATS_CONTEXT: 'Good' } }, ...LIST),
      nexWith({ config: { nats } }, ...LIST),
      nexWith({ config: { 'nats.servers': url, 'nats.user': 'ann', 'nats.password': 'p' } }, ...LIST),
    ]);
    expect(results).toEqual(results.map(() => reached));
  });

  it('flag beats configuration file beats environment', async () => {
    const wrong = { NATS_CONTEXT: 'Wrong' };
    expect(await nexWith({ env: wrong }, ...LIST)).toEqual(refused);
    expect(await nexWith({ env: wrong, config: { nats: { context: 'Good' } } }, ...LIST)).toEqual(reached);
    const config = { nats: { context: 'Wrong' } };
    expect(await nexWith({ env: { NATS_CONTEXT: 'Good' }, config }, ...LIST)).toEqual(refused);
    expect(await nexWith({ env: wrong, config }, '--context', 'Good', ...LIST)).toEqual(reached);
  });

  it('reads the files of machine-wide and own folders, the working folder and --config, the later the stronger', async () => {
    const own = join(folder.path, '.config/nex');
    const named = join(folder.path, 'named.json');
    await mkdir(own, { recursive: true });
    await writeFile(join(own, 'config.json'), JSON.stringify({ namespace: 'own', nats: { conn_name: 'kept' } }));
    await writeFile(named, JSON.stringify({ namespace: 'named', unknown: true }));
    const check = async (surroundings: Surroundings, ...args: string[]) => {
      const { stdout } = await nexWith(surroundings, '--json', '--check', ...args, ...LIST);
      const { options } = JSON.parse(stdout) as { options: { name: string; value: unknown; source: string }[] };
      return Object.fromEntries(options.map(({ name, value, source }) => [name, `${String(value)} (${source})`]));
    };
    try {
      const env = { NEX_NAMESPACE: 'environment' };
      const config = { namespace: 'here' };
      expect(await check({ env })).toMatchObject({ namespace: 'own (config)', 'nats.conn-name': 'kept (config)' });
      expect(await check({ env, config })).toMatchObject({ namespace: 'here (config)' });
      expect(await check({ env, config }, '--config', named)).toMatchObject({ namespace: 'named (config)' });
      expect(await check({ env, config }, '--namespace', 'flag')).toMatchObject({ namespace: 'flag (cli)' });
    } finally {
      await writeFile(join(own, 'config.json'), '{}');
    }
    expect(await check({ env: { NEX_NAMESPACE: 'environment' } })).toMatchObject({ namespace: 'environment (env)' });
    expect(await check({})).toMatchObject({ namespace: 'system (default)' });
  });

  it('names file and key of what makes no sense', async () => {
    for (const [config, pattern] of [
      ['{"namespace": ', /Cannot use the configuration file "config\.json": it is not JSON/],
      [{ namespace: ['a', 1] }, /Cannot use the key "namespace" of "config\.json": it is a list, and must be text/],
      [
        { nats: { tlsfirst: 'yes' } },
        /the key "nats\.tlsfirst" of "config\.json": it is a string, and must be true or false/,
      ],
      [{ logger: { level: 'loud' } }, /the key "logger\.level" of "config\.json": Allowed choices are fatal, /],
    ] as const) {
      expectFailure(await nexWith({ config }, ...LIST), 2, pattern);
    }
    expectFailure(
      await nexWith({}, '--config', '/nowhere.json', ...LIST),
      2,
      /"\/nowhere\.json": there is no such file/,
    );
  });

  it.each([
    ['another program', { name: 'web', json: true, tags: 5, servers: [] }],
    ['text that is no JSON', '// comment\n{ "name": 1 }'],
    ['a list', []],
  ])('a config.json in the working folder that belongs to %s changes nothing', async (_what, config) => {
    expect(await nexWith({ config }, '--context', 'Good', ...LIST)).toEqual(reached);
  });

  it('--check shows no secrets', async () => {
    const args = ['-s', 'nats://ann:very-secret@127.0.0.1', '--nats.password', 'very-secret', '--nats.seed', SEED];
    const [text, json] = [
      await nexWith({}, '--check', ...args, ...LIST),
      await nexWith({}, '--json', '--check', ...args, ...LIST),
    ];
    expect(text.stdout).toContain('***');
    expect(text.stdout + json.stdout).not.toMatch(/very-secret|SU[A-Z2-7]{10}/);
  });

  it('accepts the flags of Go nex that mean nothing here', async () => {
    const flags = ['--disable-upgrade-check', '--auto-upgrade', '--dev-mode', '--logger.line-info', '-l', 'debug'];
    expect(await nexWith({}, '--context', 'Good', ...flags, ...LIST)).toEqual(reached);
  });

  describe('a server that does not answer', () => {
    let silent: ReturnType<typeof createServer>;
    let url: string;
    const sockets: Socket[] = [];

    beforeAll(async () => {
      silent = createServer((socket) => sockets.push(socket.on('error', () => undefined))).listen(0, '127.0.0.1');
      await once(silent, 'listening');
      url = `nats://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    });
    afterAll(() => {
      for (const socket of sockets) socket.destroy();
      silent.close();
    });

    it.each([
      ['--timeout', '0.5'],
      ['--timeout', '500ms'],
      ['--nats.timeout', '500ms'],
    ])('%s %s: one sentence, exit code 5, in time', async (option, value) => {
      const before = performance.now();
      const run = await nexWith({}, '-s', url, option, value, 'workload', 'list');
      expectFailure(run, 5, /^error: Cannot (reach NATS at|finish in) .*\nhint: .*\n$/);
      // Start-up and what the machine does beside it are in it.
      expect(performance.now() - before).toBeLessThan(5_000);
    });
  });
});
