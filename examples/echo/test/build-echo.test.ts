import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Svcm } from '@nats-io/services';
import { DevServices } from '@nex-nix/devenv';
import { connectNats } from '@nex-nix/nats-context';
import { describeWith, startNatsServer, startProcess, tempDir, waitFor } from '@nex-nix/test-kit';
import { afterEach, expect, it, vi } from 'vitest';
import { buildEcho } from '../build-echo.ts';

afterEach(() => vi.unstubAllEnvs());

function nixStore(...args: string[]): string[] {
  return execFileSync('nix-store', args, { encoding: 'utf8' }).trim().split('\n');
}

/** Name of a store path, without its hash. */
const nameOf = (path: string) => basename(path).slice(33);

describeWith(['nix', 'nix-build', 'patchelf', 'nats-server'], 'buildEcho()', () => {
  it('makes a closure that loads nothing from outside the store, and asks Nix once', async () => {
    await using dir = await tempDir();
    const { storePath, way, built } = await buildEcho({ dataDir: dir.path });
    expect({ built, name: nameOf(storePath) }).toEqual({ built: true, name: 'echo-1.0.0' });
    expect(readdirSync(join(storePath, 'bin'))).toEqual(['echo']);
    const closure = nixStore('--query', '--requisites', storePath);
    const node = closure.find((path) => nameOf(path).startsWith('nodejs-'));
    const glibc = closure.find((path) => nameOf(path).startsWith('glibc-'));
    expect(node).toBeDefined();
    expect(nixStore('--query', '--references', storePath)).toEqual([node]);
    expect(nixStore('--query', '--references', node ?? '')).toContain(glibc);
    if (way === 'host-node') expect(closure).toHaveLength(4);

    await using server = await startNatsServer({ jetstream: false });
    await using echo = startProcess(join(storePath, 'bin/echo'), [], { env: { NATS_URL: server.url } });
    await waitFor('the echo service', () => echo.output().includes('ready on svc.echo'));
    const maps = readFileSync(`/proc/${echo.pid}/maps`, 'utf8').split('\n');
    const files = new Set(maps.flatMap((line) => /\s(\/\S+)$/.exec(line)?.[1] ?? []));
    expect([...files].filter((file) => !closure.some((path) => file.startsWith(`${path}/`)))).toEqual([]);
    expect([...files].map((file) => basename(file))).toEqual(
      expect.arrayContaining(['node', 'libc.so.6', 'libstdc++.so.6']),
    );

    const started = performance.now();
    expect(await buildEcho({ dataDir: dir.path })).toEqual({ storePath, way, built: false });
    expect(performance.now() - started).toBeLessThan(300);
    await rm(join(dir.path, 'echo/result'));
    expect(await buildEcho({ dataDir: dir.path })).toEqual({ storePath, way, built: true });
  });

  it('makes a service that answers, is found, and drains on SIGTERM', async () => {
    await using dir = await tempDir();
    const { storePath } = await buildEcho({ dataDir: dir.path });
    await using services = await DevServices.start({ dataDir: dir.path, port: 0, monitorPort: 0 });
    const env = { NATS_URL: services.url, NATS_JWT: await services.echoServiceJwt() };
    await using echo = startProcess(join(storePath, 'bin/echo'), [], { env });
    await waitFor('the echo service', () => echo.output().includes('ready on svc.echo'));
    await using nc = await connectNats({ context: 'ExpAdmin', configDir: services.configDir });
    expect((await nc.request('svc.echo', 'hello')).string()).toBe('hello');
    const found = await Array.fromAsync(await new Svcm(nc).client().info('EchoService'));
    expect(found).toMatchObject([{ name: 'EchoService', version: '1.0.0', endpoints: [{ subject: 'svc.echo' }] }]);

    echo.kill('SIGTERM');
    expect(await echo.exited).toEqual({ code: 0, signal: null });
    expect(echo.stdout()).toMatch(/^EchoService 1\.0\.0 ready .+ with id \w+\nEchoService stopping on SIGTERM\n$/);
    expect(echo.stderr()).toBe('');
    await expect(nc.request('svc.echo', '')).rejects.toThrow('no responders');
  });

  it('takes Node from the nixpkgs of the registry, but only when it is there', async () => {
    await using dir = await tempDir();
    await useNixpkgsOf(dir.path);
    expect(await buildEcho({ dataDir: join(dir.path, 'a') })).toMatchObject({ way: 'host-node' });
    execFileSync('nix', ['build', '--no-link', 'nixpkgs#nodejs-slim_24'], { stdio: 'ignore' });
    const { storePath, way } = await buildEcho({ dataDir: join(dir.path, 'b') });
    expect(way).toBe('nixpkgs');
    expect(nixStore('--query', '--references', storePath).map(nameOf)).toEqual(['nodejs-slim-of-test']);
    await using echo = startProcess(join(storePath, 'bin/echo'), [], { env: {} });
    expect(await echo.exited).toEqual({ code: 2, signal: null });
  });

  it('says which tool is missing', async () => {
    await using dir = await tempDir();
    vi.stubEnv('PATH', '/none');
    await expect(buildEcho({ dataDir: dir.path })).rejects.toMatchObject({
      code: 'ECHO_TOOL_MISSING',
      message: 'Cannot find "nix" on PATH',
      hint: 'apt-get install nix-bin',
    });
  });
});

/** Makes `nixpkgs` mean a flake in `folder` that has a Node of its own: a script that starts the one of this test. */
async function useNixpkgsOf(folder: string): Promise<void> {
  const nixpkgs = join(folder, 'nixpkgs');
  await mkdir(nixpkgs);
  const script = `/bin/mkdir -p $out/bin; printf '#!/bin/sh\\nexec %s "$@"\\n' ${process.execPath} > $out/bin/node; /bin/chmod 555 $out/bin/node`;
  await writeFile(
    join(nixpkgs, 'flake.nix'),
    `{ outputs = { self }: { legacyPackages = builtins.listToAttrs (map (system: { name = system; value.nodejs-slim_24 = derivation {
      name = "nodejs-slim-of-test"; inherit system; builder = "/bin/sh"; test = ${JSON.stringify(folder)};
      args = [ "-c" ${JSON.stringify(script).replaceAll('$', String.raw`\$`)} ]; }; }) [ "x86_64-linux" "aarch64-linux" ]); }; }`,
  );
  const registry = join(folder, 'registry.json');
  const entry = { from: { type: 'indirect', id: 'nixpkgs' }, to: { type: 'path', path: nixpkgs } };
  await writeFile(registry, JSON.stringify({ version: 2, flakes: [entry] }));
  const settings = [
    'sandbox = false',
    'substituters =',
    'build-users-group =',
    'extra-experimental-features = nix-command flakes',
  ];
  vi.stubEnv('NIX_CONFIG', [...settings, `flake-registry = ${registry}`].join('\n'));
}
