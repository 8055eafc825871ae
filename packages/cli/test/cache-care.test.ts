import { join } from 'node:path';
import { jetstreamManager } from '@nats-io/jetstream';
import type { StorePath } from '@nex-nix/nix';
import { describeWith } from '@nex-nix/test-kit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { type CacheBed, expectFailure, noise, startCacheBed, writeFiles } from './bed.ts';

vi.setConfig({ testTimeout: 60_000 });

interface Listed {
  storePath: StorePath;
  pushedAt: string;
}

describeWith(['nats-server'], 'the care of a cache', () => {
  let bed: CacheBed;
  beforeAll(async () => {
    bed = await startCacheBed();
  });
  afterAll(() => bed[Symbol.asyncDispose]());

  const listed = async () => (await bed.json<Listed[]>('cache', 'ls')).map(({ storePath }) => storePath);

  it('ls: the paths, a line each, the newest last', async () => {
    expect(await bed.nex('cache', 'ls')).toMatchObject({ code: 0, stdout: 'The cache is empty\n' });
    expect(await listed()).toEqual([]);
    const older = await bed.push('older', { a: 'older' });
    const newer = await bed.push('newer', { a: 'newer' });
    const paths = await listed();
    expect(paths).toEqual([older, newer]);
    const { stdout } = await bed.nex('cache', 'ls');
    const line = (path: string) => `^ +\\d+ B +(just now|\\d+s ago) {2}${path}$`;
    const lines = stdout.split('\n');
    expect(lines).toHaveLength(3);
    expect(lines[0]).toMatch(new RegExp(line(older)));
    expect(lines[1]).toMatch(new RegExp(line(newer)));
  });

  it('pin, pins, unpin: a name stands for its newest version', async () => {
    const first = await bed.push('version-1', { a: '1' });
    const second = await bed.push('version-2', { a: '2' });
    expect((await bed.nex('cache', 'pin', 'site.main', first)).stdout).toBe(`Pinned ${first} as cache:site.main\n`);
    await bed.json('cache', 'pin', 'site.main', second);
    await bed.json('cache', 'pin', 'site.copy', 'cache:site.main', '--keep', '1');
    expect(await bed.json('cache', 'pins')).toMatchObject([
      { name: 'site.copy', versions: [{ storePath: second }] },
      { name: 'site.main', versions: [{ storePath: second }, { storePath: first }] },
    ]);
    expect((await bed.nex('cache', 'pins')).stdout).toMatch(new RegExp(`site\\.main +│ ${second}`));
    expect(await bed.json('cache', 'info', 'cache:site.main')).toMatchObject({ storePath: second });

    await bed.json('cache', 'unpin', 'site.copy');
    await bed.json('cache', 'unpin', 'site.main');
    expectFailure(await bed.nex('cache', 'unpin', 'site.main'), 3, /error: .*"site\.main".*\nhint: .*nex cache pins/);
    expectFailure(await bed.nex('cache', 'info', 'cache:site.main'), 3, /error: .*cache:site\.main/);
    expectFailure(await bed.nex('cache', 'pin', 'no spaces', first), 2, /error: .*no spaces/);
  });

  it('push --pin pushes and pins', async () => {
    await writeFiles(join(bed.folder, 'both'), { a: 'both' });
    const { stdout } = await bed.nex('cache', 'push', join(bed.folder, 'both'), '--pin', 'both');
    expect(stdout).toMatch(/\nPinned as cache:both\n$/);
    expect(await bed.json('cache', 'info', 'cache:both')).toMatchObject({
      storePath: expect.stringMatching(/-both$/),
    });
  });

  it('rm refuses what is pinned and says by what; --force does it', async () => {
    const path = await bed.push('kept', { a: 'kept' });
    await bed.json('cache', 'pin', 'keeper', path);
    expectFailure(await bed.nex('cache', 'rm', path), 4, new RegExp(`error: .*${path}.*keeper`));
    expect(await listed()).toContain(path);
    expect((await bed.nex('cache', 'rm', '--force', path)).stdout).toBe(`Removed ${path}\n`);
    expect(await listed()).not.toContain(path);
  });

  it('gc: says what it would do, does it, and keeps what is pinned', async () => {
    const pinned = await bed.push('precious', { a: noise(300_000, 5) });
    await bed.json('cache', 'pin', 'precious', pinned);
    const other = await bed.push('disposable', { a: noise(300_000, 6) });
    const all = ['cache', 'gc', '--older-than', '0s', '--grace', '0s'];
    const planned = await bed.json<{ paths: number; freedBytes: number }>(...all, '--dry-run');
    expect(planned.paths).toBeGreaterThan(0);
    expect(await listed()).toContain(other);
    const { stdout, code } = await bed.nex(...all);
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`^Removed ${planned.paths} paths, .* manifests and .* chunks: .* KiB\nKept `));
    const left = await listed();
    expect(left).toContain(pinned);
    expect(left).not.toContain(other);
    expect(await bed.json('cache', 'info')).toMatchObject({ paths: left.length });
  });

  it('gc: says what is kept for a while, and that what is pinned exceeds the limit', async () => {
    const pinned = await bed.push('too-large', { a: noise(300_000, 8) });
    await bed.json('cache', 'pin', 'too-large', pinned);
    const gone = await bed.push('gone', { a: noise(300_000, 9) });
    const removed = await bed.nex('cache', 'rm', gone);
    expect(removed).toMatchObject({ stdout: `Removed ${gone}\n`, stderr: 'Their content goes with: nex cache gc\n' });
    const { stdout } = await bed.nex('cache', 'gc', '--max-bytes', '100KiB');
    expect(stdout).toMatch(/ KiB of it are of no path, but younger than 10m: .*nex cache gc --grace 0s\n/);
    expect(stdout).toMatch(/What is pinned, or being pushed, takes .* KiB more than --max-bytes: .*nex cache pins/);
    expect((await bed.nex('cache', 'gc', '--grace', '0s')).stdout).not.toContain('younger');
  });

  it('verify: 0 when all is well; 1, path and chunk when something is lost; 0 when it was repaired', async () => {
    const path = await bed.push('wounded', { a: noise(200_000, 7) });
    await bed.json('cache', 'pull', path, '--to', join(bed.folder, 'store'), '--trust-cache');
    const well = await bed.nex('cache', 'verify');
    expect(well.stdout).toMatch(/^Checked \d+ paths and \d+ chunks: 0 damaged, 0 repaired\n$/);
    expect(well.code).toBe(0);

    const jsm = await jetstreamManager(await bed.server.connect());
    const { state } = await jsm.streams.info('NIX_CHUNKS');
    await jsm.streams.deleteMessage('NIX_CHUNKS', state.last_seq);
    const hurt = await bed.nex('cache', 'verify');
    expect(hurt.stdout).toMatch(new RegExp(`chunk [\\w-]{43} missing, kept; needed by:\n  ${path}\n`));
    expect(hurt.code).toBe(1);
    const asJson = await bed.nex('--json', 'cache', 'verify');
    expect(asJson.code).toBe(1);
    expect(JSON.parse(asJson.stdout)).toMatchObject({ damaged: [{ kind: 'missing', paths: [path], outcome: 'kept' }] });

    const repaired = await bed.nex('cache', 'verify', '--repair-from', join(bed.folder, 'store'));
    expect(repaired.stdout).toMatch(/: 1 damaged, 1 repaired\n$/);
    expect(repaired.code).toBe(0);
    expect((await bed.nex('cache', 'verify')).code).toBe(0);
  });

  it('verify: a path that has lost its manifest is named, and brought back', async () => {
    const path = await bed.push('headless', { a: 'headless' });
    const store = join(bed.folder, 'store');
    await bed.json('cache', 'pull', path, '--to', store, '--trust-cache');
    const jsm = await jetstreamManager(await bed.server.connect());
    const { state } = await jsm.streams.info('NIX_NARS');
    await jsm.streams.deleteMessage('NIX_NARS', state.last_seq);

    const pull = await bed.nex('cache', 'pull', path, '--to', join(bed.folder, 'other'), '--trust-cache');
    expectFailure(pull, 1, /error: Cannot read the manifest of .*\nhint: .*nex cache verify --repair\n/);
    const hurt = await bed.nex('cache', 'verify');
    expect(hurt).toMatchObject({ code: 1, stderr: expect.stringContaining('nex cache verify --repair') as string });
    expect(hurt.stdout).toMatch(new RegExp(`${path} could not be pulled, kept: .*\n.*: 1 damaged, 0 repaired\n$`));
    const none = await bed.nex('cache', 'verify', '--repair-from', join(bed.folder, 'nowhere'));
    expectFailure(none, 2, /error: Cannot repair from ".*nowhere": there is no store in it\nhint: /);

    const repaired = await bed.nex('cache', 'verify', '--repair-from', store);
    expect(repaired).toMatchObject({ code: 0, stderr: '' });
    expect(repaired.stdout).toMatch(/could not be pulled, repaired: .*\n.*: 1 damaged, 1 repaired\n$/);
    await bed.json('cache', 'pull', path, '--to', join(bed.folder, 'other'), '--trust-cache');
  });
});
