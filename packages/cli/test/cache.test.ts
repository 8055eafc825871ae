import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jetstreamManager } from '@nats-io/jetstream';
import { NatsCache } from '@nex-nix/cache';
import { formatPublicKey, generateSecretKey, parseSecretKey, publicKeyOf } from '@nex-nix/nix';
import { saveContext } from '@nex-nix/nats-context';
import { describeWith, startNatsServer, startProcess, tempDir, waitFor } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { runNex, startNex } from '../../../test/e2e/nex.ts';
import { TreeSource } from '../../cache/test/fixture.ts';
import { type CacheBed, expectFailure, noise, startCacheBed, writeFiles } from './bed.ts';

vi.setConfig({ testTimeout: 60_000 });

const ABSENT = '/nix/store/00000000000000000000000000000000-absent-1.0';
const NEX = join(import.meta.dirname, '../bin/nex.js');

describeWith(['nats-server'], 'nex cache', () => {
  let bed: CacheBed;
  beforeAll(async () => {
    bed = await startCacheBed();
  });
  afterAll(() => bed[Symbol.asyncDispose]());

  it('push: says what was sent, and the second time that all is there', async () => {
    const folder = join(bed.folder, 'twice');
    await writeFiles(folder, { greeting: 'hello\n' });
    const first = await bed.nex('cache', 'push', folder);
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expect(first.stdout).toMatch(
      /^Closure of \/nix\/store\/\w{32}-twice: 1 paths, 1 pushed, \S+ \w+ in 1 chunks sent \([\d.]+ s\)\n$/,
    );
    expect((await bed.nex('cache', 'push', folder)).stdout).toContain('1 paths, all there already');
  });

  it('push of several things at once adds up what was done', async () => {
    await writeFiles(join(bed.folder, 'one'), { a: 'one' });
    await writeFiles(join(bed.folder, 'two'), { a: 'two' });
    const report = await bed.json('cache', 'push', join(bed.folder, 'one'), join(bed.folder, 'two'));
    expect(report).toMatchObject({
      storePaths: [expect.stringMatching(/-one$/), expect.stringMatching(/-two$/)],
      paths: { total: 2, pushed: 2, present: 0 },
      chunks: { total: 2, sent: 2 },
    });
  });

  it('pull: brings it into a store of its own, verified', async () => {
    const content = noise(3 << 20);
    const path = await bed.push('pulled', { 'big.bin': content });
    const store = join(bed.folder, 'store');
    const keys = ['--trusted-public-keys', bed.publicKey];
    const { code, stdout } = await bed.nex('cache', 'pull', path, '--to', store, ...keys);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Pulled 1 paths, 3\.0 MiB, every NAR hash verified \([\d.]+ s\)\n/);
    expect(stdout).toContain(join(store, path));
    expect(await readFile(join(store, path, 'big.bin'))).toEqual(content);
    expect(await bed.json('cache', 'pull', path, '--to', store, ...keys)).toMatchObject({ copied: [], narBytes: 0 });
  });

  it('pull of another version: only what has changed is fetched, the rest is taken from what is there', async () => {
    const content = noise(6 << 20, 4);
    const [first, second] = [
      await bed.push('version-1', { 'big.bin': content }),
      await bed.push('version-2', { 'big.bin': Buffer.concat([content, Buffer.from('more')]) }),
    ];
    const to = ['--to', join(bed.folder, 'versions'), '--trust-cache'];
    expect((await bed.nex('cache', 'pull', first, ...to)).stdout).toMatch(/^Pulled 1 paths, 6\.0 MiB, every NAR hash/);
    const { code, stdout } = await bed.nex('cache', 'pull', second, ...to);
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /^Pulled 1 paths, 6\.0 MiB, [45]\.\d MiB of it taken from what was there, every NAR hash verified/,
    );
  });

  it('pull of what no trusted key has signed: exit code 4, the options that trust, nothing imported', async () => {
    // What is named by its content needs no signature, so this one is not.
    await using source = await TreeSource.open();
    const info = await source.add('foreign', { a: 'foreign' });
    const cache = await NatsCache.open(await bed.server.connect());
    await cache.push(source, [info.storePath]);
    const to = join(bed.folder, 'distrust');
    const other = formatPublicKey(publicKeyOf(generateSecretKey('other-1')));
    for (const [keys, why] of [
      [[], 'no key is trusted'],
      [['--trusted-public-keys', other], 'trusted are "other-1"'],
    ] as const) {
      const run = await bed.nex('cache', 'pull', info.storePath, '--to', to, ...keys);
      expectFailure(
        run,
        4,
        new RegExp(`error: Cannot trust "${info.storePath}": .*"test-cache-1"; ${why}\nhint: .*--trust`),
      );
    }
    expect(await readdir(join(to, 'nix/store'))).toEqual([]);
    await bed.json('cache', 'pull', info.storePath, '--to', to, '--trusted-public-keys', `${other} ${bed.publicKey}`);
  });

  it('ends quietly when nobody reads on', async () => {
    await bed.push('unread', { a: 'unread' });
    const command = `"${process.execPath}" "${NEX}" -s ${bed.server.url} cache ls -R | true; exit "\${PIPESTATUS[0]}"`;
    await using shell = startProcess('bash', ['-c', command]);
    expect(await shell.exited).toMatchObject({ code: 141 });
    expect(shell.output()).toBe('');
  });

  it('pull of what is not there: exit code 3, the path named', async () => {
    const run = await bed.nex('cache', 'pull', ABSENT, '--to', join(bed.folder, 'empty'));
    expectFailure(run, 3, new RegExp(`error: .*${ABSENT}`));
  });

  it('info: the key and what is stored; of a path: what is known of it', async () => {
    const path = await bed.push('informed', { a: 'x'.repeat(1000) });
    const { stdout } = await bed.nex('cache', 'info');
    expect(stdout).toContain(`Public key: ${bed.publicKey}`);
    expect(stdout).toMatch(/Paths: \d+\n/);
    expect(await bed.json('cache', 'info')).toMatchObject({
      server: bed.server.url,
      publicKey: bed.publicKey,
      paths: expect.any(Number),
      storedBytes: expect.any(Number),
    });
    expect(await bed.json('cache', 'info', path)).toMatchObject({
      storePath: path,
      references: [],
      signatures: [expect.stringMatching(/^test-cache-1:/)],
      closurePaths: 1,
    });
    expectFailure(await bed.nex('cache', 'info', ABSENT), 3, /error: .*not in the cache.*\nhint: .*nex cache push/);
  });

  it('ls of a path: the files in it', async () => {
    const path = await bed.push('listed', { b: 'bb', a: 'a' });
    const { stdout } = await bed.nex('cache', 'ls', path);
    expect(stdout).toMatch(/^-r--r--r-- +1 {2}a\n-r--r--r-- +2 {2}b\n$/);
    expect(await bed.json('cache', 'ls', `${path}/b`)).toEqual({
      storePath: path,
      files: [{ path: 'b', type: 'regular', size: 2 }],
    });
    expectFailure(await bed.nex('cache', 'ls', `${path}/c`), 3, new RegExp(`error: .*${path}/c.*no such file`));
  });
});

describeWith(['nats-server', 'script'], 'nex cache on a terminal', () => {
  it('shows progress in one line, that is gone at the end', async () => {
    await using bed = await startCacheBed();
    const folder = join(bed.folder, 'seen');
    await writeFiles(folder, { 'big.bin': noise(8 << 20, 4) });
    const command = `${process.execPath} ${NEX} -s ${bed.server.url} cache push ${folder}`;
    const env = { ...process.env, NO_COLOR: '1' };
    await using terminal = startProcess('script', ['-qec', command, '/dev/null'], { env });
    await terminal.exited;
    const output = terminal.stdout();
    expect(output).toMatch(/Pushing [━─]{24} +\d+% {2}[\d.]+ \w+ of 8\.0 MiB, 0 of 1 paths/);
    // What is left on the screen is the result alone.
    expect(output.split('\u001B[K').at(-1)).toMatch(/^Closure of .*-seen: 1 paths, 1 pushed/);
  });
});

describeWith(['nats-server'], 'nex cache interrupted', () => {
  it('ends with 130, lists nothing that is half-done, and goes on the next time', async () => {
    await using bed = await startCacheBed();
    const folder = join(bed.folder, 'large');
    await writeFiles(folder, { 'big.bin': noise(200 << 20, 4) });
    const jsm = await jetstreamManager(await bed.server.connect());
    const stored = async () => (await jsm.streams.info('NIX_CHUNKS')).state.messages;
    await using push = startProcess(process.execPath, [NEX, '-s', bed.server.url, 'cache', 'push', folder]);
    await expect.poll(stored, { timeout: 30_000, interval: 10 }).toBeGreaterThan(0);
    push.kill('SIGINT');
    expect(await push.exited).toMatchObject({ code: 130 });
    expect(push.stderr()).toMatch(/Push again to go on: what was sent is not sent twice\nInterrupted\n$/);
    expect(await bed.json('cache', 'ls')).toEqual([]);
    const before = await stored();

    await using again = startProcess(process.execPath, [NEX, '-s', bed.server.url, '--json', 'cache', 'push', folder]);
    await expect.poll(stored, { timeout: 30_000, interval: 10 }).toBeGreaterThan(before);
    again.kill('SIGINT');
    expect(await again.exited).toMatchObject({ code: 130 });
    expect(JSON.parse(again.stdout())).toEqual({ error: { code: 'CLI_INTERRUPTED', message: 'Interrupted' } });
    expect(again.stderr()).toBe('');

    const sent = await stored();
    const report = await bed.json<{ chunks: { total: number; sent: number } }>('cache', 'push', folder);
    expect(report.chunks.total - report.chunks.sent).toBe(sent);
  });
});

describeWith(['nats-server'], 'nex cache without', () => {
  it('a cache: exit code 5, how to start one', async () => {
    await using folder = await tempDir('nex-cli-');
    await writeFiles(folder.path, { a: 'a' });
    const run = await runNex(['-s', 'nats://127.0.0.1:1', 'cache', 'push', folder.path]);
    expectFailure(run, 5, /error: .*127\.0\.0\.1:1/);
  });

  it.each([
    [['push'], /missing required argument/],
    [['pull', ABSENT], /required option '--to/],
    [['gc', '--older-than', '3'], /Cannot take "3" for an age/],
    [['gc', '--max-bytes', '10GB'], /Cannot take "10GB" for a size.*\nhint: .*GiB/],
    [['push', 'a', 'b', '--pin', 'x'], /Cannot pin 2 paths/],
    [['info', 'hello'], /error: .*"hello"/],
  ])('sense: %j ends with exit code 2', async (args, pattern) => {
    const run = await runNex(['-s', 'nats://127.0.0.1:1', 'cache', ...args]);
    expect(run.stderr).toMatch(pattern);
    expect(run.code).toBe(2);
  });
});

describe('nex workload start of a path', () => {
  it.each([
    [[ABSENT, '--nexfile', 'Nexfile'], /Cannot start ".*-absent-1\.0" and what the Nexfile "Nexfile" says/],
    [['cache:x', '--type', 'native'], /Cannot start "cache:x" as a workload of type "native"/],
  ])('with options that do not go with it: %j ends with exit code 2', async (args, pattern) => {
    const run = await runNex(['-s', 'nats://127.0.0.1:1', 'workload', 'start', ...args]);
    expectFailure(run, 2, pattern);
  });
});

describe('nex cache keygen', () => {
  it('writes a secret key that its owner alone may read, and prints the public one', async () => {
    await using folder = await tempDir('nex-cli-');
    const file = join(folder.path, 'key');
    const { code, stdout } = await runNex(['cache', 'keygen', '--name', 'example-1', '--out', file]);
    expect(code).toBe(0);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    const secretKey = parseSecretKey((await readFile(file, 'utf8')).trim());
    expect(stdout).toBe(`${formatPublicKey(publicKeyOf(secretKey))}\n`);

    const before = await readFile(file, 'utf8');
    const again = await runNex(['cache', 'keygen', '--name', 'example-1', '--out', file]);
    expectFailure(again, 4, /error: .*already\nhint: /);
    expect(await readFile(file, 'utf8')).toBe(before);
  });

  it('refuses a name that no key can have, and a folder that is not there', async () => {
    await using folder = await tempDir('nex-cli-');
    const bad = await runNex(['cache', 'keygen', '--name', 'a:b', '--out', join(folder.path, 'key')]);
    expectFailure(bad, 2, /error: Cannot make a key with the name "a:b".*\nhint: /);
    const blank = await runNex(['cache', 'keygen', '--name', 'a b', '--out', join(folder.path, 'key')]);
    expectFailure(blank, 2, /error: Cannot make a key with the name "a b"/);
    const nowhere = await runNex(['cache', 'keygen', '--name', 'a', '--out', join(folder.path, 'no/key')]);
    expectFailure(nowhere, 2, /error: .*no such folder/);
  });
});

describeWith(['nats-server'], 'the key of a context', () => {
  it('is made by keygen, once, and what the service of a cache signs with that has no other', async () => {
    await using folder = await tempDir('nex-cli-');
    const env = { XDG_CONFIG_HOME: folder.path };
    await using server = await startNatsServer();
    await saveContext('Lab', { url: server.url }, { configDir: folder.path });
    const inContext = ['--context', 'Lab', '--json'];
    const serve = ['cache', 'serve', '--listen', '127.0.0.1:0', '--service-key-file'];
    const without = await runNex(['--context', 'Lab', ...serve], env);
    expectFailure(without, 2, /error: Cannot be the service of the cache.*\nhint: .*keygen/);

    const keygen = ['cache', 'keygen', '--name', 'lab-1'];
    expectFailure(await runNex(keygen, env), 2, /error: Cannot make the key of a context.*\nhint: /);
    const made = await runNex(['--context', 'Lab', ...keygen], env);
    expect(made.code).toBe(0);
    const file = join(folder.path, 'nex/cache-keys/Lab.key');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expectFailure(await runNex(['--context', 'Lab', ...keygen], env), 4, /error: .*already\nhint: /);

    // A file that is named counts, whatever the context has.
    const other = join(folder.path, 'other');
    expectFailure(
      await runNex(['--context', 'Lab', ...serve, other], env),
      2,
      /error: Cannot .*other.*\nhint: .*keygen/,
    );
    await writeFile(other, made.stdout, { mode: 0o600 });
    const publicKey = await runNex(['--context', 'Lab', ...serve, other], env);
    expectFailure(publicKey, 2, /error: .*other": it is no secret key\nhint: .*public key/);

    await using door = startNex([...inContext, ...serve], env);
    await waitFor('the door', () => door.stderr().includes('binary cache ready'));
    expect(door.stderr()).toContain(made.stdout.trim());
  });
});
