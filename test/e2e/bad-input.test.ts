import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { describeWith, type RunningProcess, startNatsServer, type TempDir, tempDir, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findTraces } from './leftovers.ts';
import { runNex, startNex } from './nex.ts';
import { addProgram, corruptEveryChunk, push, stripSignatures } from './sabotage.ts';

/** One sentence that names the thing, a hint where there is something to do, and never a stack trace. */
function expectSentence(stderr: string, pattern: RegExp): void {
  expect(stderr).toMatch(pattern);
  expect(stderr).not.toMatch(/\n\s+at /);
  expect(stderr).not.toContain('fault of nex itself');
}

/** Runs nex workload start with a start request of the type nix. */
const startWorkload = (url: string, request: object) =>
  runNex(['-s', url, 'workload', 'start', '--name', 'x', '--start-request', JSON.stringify(request)]);

const ABSENT = '/nix/store/00000000000000000000000000000000-absent-1.0';

describeWith(['nats-server'], 'nex dev with bad input', () => {
  it('a port already taken: names the port, exit code not 0, nothing left', async () => {
    await using folder = await tempDir('nex-bad-');
    const squatter = createServer().listen(0, '127.0.0.1');
    await once(squatter, 'listening');
    const { port } = squatter.address() as { port: number };
    const { code, stderr } = await runNex(['dev', '--data-dir', folder.path, '--port', String(port)]);
    squatter.close();
    expect(code).not.toBe(0);
    expectSentence(stderr, new RegExp(`error: .*${port}.*\n`));
    expect((await findTraces([folder.path])).processes).toEqual([]);
  });

  it('nats-server missing: says how to install it, exit code 3', async () => {
    await using folder = await tempDir('nex-bad-');
    await mkdir(join(folder.path, 'bin'));
    const { code, stderr } = await runNex(['dev', '--data-dir', join(folder.path, 'data')], {
      PATH: join(folder.path, 'bin'),
      NEX_NATS_SERVER: 'nats-server-that-is-not-there',
    });
    expect(code).toBe(3);
    expectSentence(stderr, /error: .*nats-server-that-is-not-there.*\nhint: .*apt-get install nats-server/);
  });

  it('nats-server too old: names both versions', async () => {
    await using folder = await tempDir('nex-bad-');
    const old = join(folder.path, 'nats-server');
    await writeFile(old, '#!/bin/sh\necho nats-server: v2.8.4\n', { mode: 0o755 });
    const { code, stderr } = await runNex(['dev', '--data-dir', join(folder.path, 'data')], { NEX_NATS_SERVER: old });
    expect(code).not.toBe(0);
    expectSentence(stderr, /error: .*2\.8\.4.*2\.9/);
  });
});

describe('nex without a server, a context, or sense', () => {
  it('a server that is not there: exit code 5 and the address', async () => {
    const { code, stderr } = await runNex(['-s', 'nats://127.0.0.1:1', 'workload', 'list']);
    expect(code).toBe(5);
    expectSentence(stderr, /error: .*127\.0\.0\.1:1.*\nhint: /);
  });

  it('a wrong context name: exit code 3, the contexts that there are', async () => {
    await using folder = await tempDir('nex-bad-');
    await mkdir(join(folder.path, 'nats/context'), { recursive: true });
    await writeFile(join(folder.path, 'nats/context/ExpAdmin.json'), '{}');
    const { code, stderr } = await runNex(['--context', 'ExpAdmn', 'node', 'list'], { XDG_CONFIG_HOME: folder.path });
    expect(code).toBe(3);
    expectSentence(stderr, /error: .*"ExpAdmn".*\nhint: .*ExpAdmin/);
  });

  it('an unknown command: exit code 2 and what was meant', async () => {
    const { code, stderr } = await runNex(['wrokload', 'list']);
    expect(code).toBe(2);
    expectSentence(stderr, /wrokload/);
  });

  it('with --json the error is JSON on stdout', async () => {
    const { code, stdout } = await runNex(['--json', '-s', 'nats://127.0.0.1:1', 'node', 'list']);
    expect(code).toBe(5);
    expect(JSON.parse(stdout)).toMatchObject({
      error: { code: expect.any(String), message: expect.stringContaining('127.0.0.1:1') },
    });
  });
});

describeWith(['nats-server', 'nix-build', 'busybox'], 'nex devrun with bad input', () => {
  it('a store path that does not exist: exit code 3, before anything is sent', async () => {
    const { code, stderr } = await runNex(['-s', 'nats://127.0.0.1:1', 'devrun', ABSENT]);
    expect(code).toBe(3);
    expectSentence(stderr, new RegExp(`error: .*${ABSENT}`));
  });

  it('something that is no installable: exit code 2, the kinds there are', async () => {
    const { code, stderr } = await runNex(['devrun', './no-such-thing']);
    expect(code).toBe(2);
    expectSentence(stderr, /error: .*no-such-thing/);
  });

  it('no JetStream: says so', async () => {
    await using server = await startNatsServer({ jetstream: false });
    await using folder = await tempDir('nex-bad-');
    const { code, stderr } = await runNex(['-s', server.url, 'node', 'up', '--state-dir', folder.path]);
    expect(code).not.toBe(0);
    expectSentence(stderr, /error: .*JetStream.*\nhint: /);
    expect((await findTraces([folder.path])).processes).toEqual([]);
  });

  it('no node running, so no cache either: exit code 5, how to start one', async () => {
    await using server = await startNatsServer();
    await using folder = await tempDir('nex-bad-');
    const path = await addProgram(folder.path, 'lonely-1.0', ['lonely']);
    const { code, stderr } = await runNex(['-s', server.url, 'devrun', path]);
    expect(code).toBe(5);
    expectSentence(stderr, /error: .*cache.*\nhint: .*nex node up/);
  });

  it('no node running: exit code 5, how to start one', async () => {
    await using server = await startNatsServer();
    const { code, stderr } = await startWorkload(server.url, { store_path: ABSENT });
    expect(code).toBe(5);
    expectSentence(stderr, /error: .*node.*\nhint: .*nex node up/);
  });
});

describeWith(['nats-server', 'nix-store', 'crun', 'busybox'], 'a node with bad store paths', () => {
  let folder: TempDir;
  let server: Awaited<ReturnType<typeof startNatsServer>>;
  let node: RunningProcess;

  beforeAll(async () => {
    folder = await tempDir('nex-bad-');
    server = await startNatsServer();
    node = startNex(['-s', server.url, '--json', 'node', 'up', '--state-dir', join(folder.path, 'node')]);
    await waitFor('the node', () => node.output().includes('nex node ready'), { timeout: 20_000 });
  });
  afterAll(async () => {
    node.kill('SIGTERM');
    await node.exited;
    await server[Symbol.asyncDispose]();
    const traces = await findTraces([folder.path]);
    expect(traces).toMatchObject({ processes: [], mounts: [], cgroups: [] });
    await folder[Symbol.asyncDispose]();
  });

  const devrun = (...args: string[]) => runNex(['-s', server.url, 'devrun', ...args]);

  it('a program that is not in the store path: exit code 3, the programs that are', async () => {
    const path = await addProgram(folder.path, 'tool-1.0', ['one', 'two']);
    const missing = await devrun(path, '--program', 'bin/three');
    expect(missing.code).toBe(3);
    expectSentence(missing.stderr, new RegExp(`error: .*${path}.*bin/three.*\nhint: .*bin/one, bin/two`));
    const several = await devrun(path);
    expect(several.code).toBe(3);
    expectSentence(several.stderr, /several programs and none is called "tool"\nhint: .*bin\/one, bin\/two/);
  });

  it('a store path that is not in the cache: refused by the node, named', async () => {
    const { code, stderr } = await startWorkload(server.url, { store_path: ABSENT });
    expect(code).not.toBe(0);
    expectSentence(stderr, new RegExp(`error: .*${ABSENT}`));
  });

  it('a start request that breaks the schema: names the field', async () => {
    const { code, stderr } = await startWorkload(server.url, { store_path: ABSENT, network: 'macvlan' });
    expect(code).not.toBe(0);
    expectSentence(stderr, /error: .*network/);
  });

  it('an unsigned path: refused, says which key would be trusted', async () => {
    const path = await addProgram(folder.path, 'unsigned-1.0', ['unsigned']);
    const nc = await server.connect();
    await push(nc, path);
    await stripSignatures(nc, path);
    // Not devrun: its push would have the cache sign the path again.
    const { code, stderr } = await startWorkload(server.url, { store_path: path, argv: ['true'] });
    expect(code).not.toBe(0);
    expectSentence(stderr, new RegExp(`error: .*${path}.*sign`));
  });

  it('a corrupted chunk: the workload does not start, path and chunk are named, nothing is imported', async () => {
    const path = await addProgram(folder.path, 'corrupt-1.0', ['corrupt']);
    const nc = await server.connect();
    await push(nc, path);
    expect(await corruptEveryChunk(nc)).toBeGreaterThan(0);
    const { code, stderr } = await devrun(path, '--argv', 'true');
    expect(code).toBe(1);
    expectSentence(stderr, new RegExp(`error: .*chunk "[\\w-]{43}" of "${path}"`));
    const imported = await readdir(join(folder.path, 'node/store/nix/store'));
    expect(imported).not.toContain(path.slice('/nix/store/'.length));
  });
});
