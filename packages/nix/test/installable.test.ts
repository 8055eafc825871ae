import { existsSync } from 'node:fs';
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { publish, queryClosure, resolveInstallable } from '@nex-nix/nix';
import { describeEachNix, tempDir, type TempDir } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { storePath } from './nix.ts';

/** Builds in a second: the builder is the machine's own shell. */
const FLAKE = `{
  outputs = { self }: let
    build = name: script: derivation { inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; };
  in {
    packages.x86_64-linux = rec {
      default = hello;
      hello = build "hello-2.12" "echo building >&2; echo content > $out";
      broken = build "broken" "echo this goes wrong >&2; exit 3";
      tools = build "tools-1.0" "PATH=/bin:/usr/bin; mkdir -p $out/bin";
    };
  };
}
`;

describe('resolveInstallable()', () => {
  it.each(['', '-x', 'nixpkgs', './nothing/here'])('refuses %j, and names what it takes', async (text) => {
    await expect(resolveInstallable(text)).rejects.toMatchObject({
      code: 'NIX_INSTALLABLE_INVALID',
      kind: 'usage',
      hint: expect.stringContaining('nixpkgs#hello'),
    });
  });

  it('publishes an executable file as bin/<name>, and a folder as it is', async () => {
    await using dir = await tempDir();
    await mkdir(join(dir.path, 'app/bin'), { recursive: true });
    await writeFile(join(dir.path, 'app/bin/server'), 'binary', { mode: 0o755 });
    const file = await resolveInstallable('app/bin/server', { cwd: dir.path });
    expect(file).toMatchObject({
      storePath: (await publish(join(dir.path, 'app/bin/server'), { as: 'program' })).info.storePath,
      subPath: 'bin/server',
      name: 'server',
      published: join(dir.path, 'app/bin/server'),
    });
    expect((await queryClosure(file.source, [file.storePath])).map((info) => info.storePath)).toEqual([file.storePath]);
    expect(await resolveInstallable('./app', { cwd: dir.path })).toMatchObject({
      storePath: (await publish(join(dir.path, 'app'))).info.storePath,
      subPath: '',
      name: 'app',
      published: join(dir.path, 'app'),
    });
    await expect(resolveInstallable('/etc/passwd')).rejects.toMatchObject({
      code: 'NIX_PUBLISH_REFUSED',
      message: 'Cannot publish "/etc/passwd": it is not executable',
    });
  });

  it('refuses a store path that is not there, with a hint', async () => {
    const path = storePath('hello-2.12');
    for (const text of [path, `${path}/bin/hello`]) {
      await expect(resolveInstallable(text)).rejects.toMatchObject({
        code: 'NIX_PATH_NOT_FOUND',
        kind: 'not-found',
        message: `Cannot find "${text}": it is not on this machine`,
        hint: `Build or fetch it with: nix-store --realise ${path}`,
      });
    }
    await expect(resolveInstallable('/nix/store/x')).rejects.toMatchObject({ code: 'NIX_STORE_PATH_INVALID' });
  });

  it('says that there is no Nix to build with', async () => {
    await expect(resolveInstallable('.#x', { nixCommand: '/nonexistent/nix' })).rejects.toMatchObject({
      code: 'NIX_COMMAND_MISSING',
    });
  });
});

describeEachNix('resolveInstallable() with Nix', (nix) => {
  let dir: TempDir;
  const before = { ...process.env };
  beforeAll(async () => {
    dir = await tempDir();
    await writeFile(join(dir.path, 'flake.nix'), FLAKE);
    // What a user has in the environment, `nix` gets.
    process.env['NIX_CONFIG'] = nix.env['NIX_CONFIG'];
  });
  afterAll(async () => {
    if (before['NIX_CONFIG'] === undefined) delete process.env['NIX_CONFIG'];
    else process.env['NIX_CONFIG'] = before['NIX_CONFIG'];
    await dir[Symbol.asyncDispose]();
  });

  it('builds flake references, and tells what Nix says meanwhile', async () => {
    const cwd = dir.path;
    const log: string[] = [];
    const built = await resolveInstallable('.#hello', { cwd, onLog: (line) => void log.push(line) });
    expect(built).toMatchObject({ storePath: expect.stringMatching(/-hello-2\.12$/), subPath: '', name: 'hello' });
    expect(existsSync(built.storePath)).toBe(true);
    for (const text of ['.', '.#', '.#default', `path:${cwd}`, cwd, './.']) {
      expect(await resolveInstallable(text, { cwd })).toEqual(built);
    }
    expect(await resolveInstallable(`${cwd}#packages.x86_64-linux.hello`)).toEqual(built);
    expect(await readdir(cwd)).not.toContain('result');
  });

  it('takes the output with programs, of the several that a later Nix builds', async () => {
    const cwd = dir.path;
    const [doc, out] = [await resolveInstallable('.#hello', { cwd }), await resolveInstallable('.#tools', { cwd })];
    const built = JSON.stringify([{ drvPath: 'x', outputs: { doc: doc.storePath, out: out.storePath } }]);
    const nixCommand = join(cwd, 'later-nix');
    await writeFile(nixCommand, `#!/bin/sh\necho '${built}'\n`, { mode: 0o755 });
    expect(await resolveInstallable('.#tools', { cwd, nixCommand })).toEqual(out);
  });

  it('takes store paths, files below, and links to them', async () => {
    const { storePath } = await resolveInstallable('.#tools', { cwd: dir.path });
    expect(await resolveInstallable(storePath)).toMatchObject({ storePath, subPath: '', name: 'tools' });
    expect(await resolveInstallable(`${storePath}/bin`)).toMatchObject({ storePath, subPath: 'bin', name: 'bin' });
    await mkdir(join(dir.path, 'sub'));
    await symlink(storePath, join(dir.path, 'result'));
    await symlink('../result/bin', join(dir.path, 'sub/bin'));
    expect(await resolveInstallable('./result', { cwd: dir.path })).toMatchObject({
      storePath,
      subPath: '',
      name: 'tools',
    });
    expect(await resolveInstallable('result/bin', { cwd: dir.path })).toMatchObject({
      storePath,
      subPath: 'bin',
      name: 'bin',
    });
    expect(await resolveInstallable('sub/bin', { cwd: dir.path })).toMatchObject({ subPath: 'bin' });
    await expect(resolveInstallable(`${storePath}/bin/absent`)).rejects.toMatchObject({
      hint: `See what is there: ls ${storePath}`,
    });
  });

  it('says why a build failed', async () => {
    const log: string[] = [];
    await expect(
      resolveInstallable('.#broken', { cwd: dir.path, onLog: (line) => void log.push(line) }),
    ).rejects.toMatchObject({
      code: 'NIX_BUILD_FAILED',
      kind: 'failed',
      message: expect.stringMatching(/^Cannot build "\.#broken": builder for '.*' failed with exit code 3/),
      hint: expect.stringContaining("build --no-link --print-build-logs '.#broken'"),
    });
    expect(log.join('\n')).toContain('this goes wrong');
    await expect(resolveInstallable('.#absent', { cwd: dir.path })).rejects.toMatchObject({ code: 'NIX_BUILD_FAILED' });
  });

  it('stops when it is told to', async () => {
    const controller = new AbortController();
    const building = resolveInstallable('.#hello', { cwd: dir.path, signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(building).rejects.toThrow(/^enough$/);
  });
});
