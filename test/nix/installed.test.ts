import { existsSync } from 'node:fs';
import { glob, mkdir, readFile, writeFile } from 'node:fs/promises';
import { findPackageJSON } from 'node:module';
import { join } from 'node:path';
import type { DevStatus } from '@nex-nix/devenv';
import {
  describeEachNix,
  describeWith,
  findTool,
  startProcess,
  type TempDir,
  tempDir,
  waitFor,
} from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { StubbedFlake, SYSTEM } from './flake.ts';

/** What a user's machine has; the rest is for the package to bring. */
const PATH = '/usr/sbin:/usr/bin:/sbin:/bin';
const FREE = ['--port', '0', '--monitor-port', '0', '--cache-port', '0'];
/** Of a machine that has much else to do; a build takes 10 seconds of one of its processors. */
const TIMEOUT = 300_000;

describeWith(['nix', 'bash', 'esbuild', 'nats-server', 'crun', 'busybox'], 'nex as the flake installs it', () => {
  let folder: TempDir;
  let flake: StubbedFlake;
  let built: string;

  beforeAll(async () => {
    folder = await tempDir('nex-installed-');
    flake = await StubbedFlake.make(folder.path);
  });
  /** What is to be done when no Nix needs any more what was built. */
  const cleaning: (() => Promise<void>)[] = [];
  afterAll(async () => {
    for (const clean of cleaning) await clean();
    await folder[Symbol.asyncDispose]();
  });

  const versions: string[] = [];
  describeEachNix('built with a stub of nixpkgs', (nix) => {
    const isFirst = versions.length === 0;
    versions.push(nix.version);

    it('is a package that passes its own check', { timeout: TIMEOUT }, async () => {
      const path = await flake.build(nix, 'nex');
      if (isFirst) built = path;
      // Whichever Nix it is: what is the same is built once.
      expect(path).toBe(built);
      expect(await flake.run(nix, ['eval', '--json'], `apps.${SYSTEM}.default.program`)).toBe(`"${path}/bin/nex"`);
    });

    describe.skipIf(!isFirst)('once', () => {
      /** Of the Nexfile. */
      let derivation = '';

      if (isFirst)
        cleaning.push(async () => {
          if (derivation !== '') await flake.remove(nix, derivation);
          await flake.unbuild(nix, `packages.${SYSTEM}.nex`);
        });

      it('has every package that its code names, and the agent of guests', async () => {
        const lib = join(built, 'lib/nex-nix');
        const named = new Map<string, string>();
        for await (const file of glob('packages/**/*.js', { cwd: lib })) {
          const text = await readFile(join(lib, file), 'utf8');
          for (const [, specifier = ''] of text.matchAll(/(?:\bfrom |\bimport\(|^import )'([^.'$][^'$]*)'/gm))
            if (!specifier.startsWith('node:')) named.set(specifier, join(lib, file));
        }
        expect([...named.keys()]).toEqual(
          expect.arrayContaining(['@nex-nix/node', '@napi-rs/lzma', 'commander', 'yaml']),
        );
        const absent = [...named].filter(([specifier, from]) => !findPackageJSON(specifier, from)?.startsWith(lib));
        expect(absent).toEqual([]);
        expect(await readFile(join(lib, 'packages/guest/dist/agent.cjs'), 'utf8')).toContain('Usage: node agent.cjs');
      });

      it('runs dev services and a node, and on it what lib.mkNexWorkload makes', { timeout: TIMEOUT }, async () => {
        const dataDir = join(folder.path, 'data');
        const env = { PATH, HOME: folder.path, XDG_CONFIG_HOME: dataDir, NO_COLOR: '1' };
        const nex = async (...args: string[]) => {
          await using run = startProcess(join(built, 'bin/nex'), args, { cwd: folder.path, env });
          const { code } = await run.exited;
          if (code !== 0) throw new Error(`nex ${args.join(' ')} ended with exit code ${code}:\n${run.output()}`);
          return run.stdout();
        };
        const nexfile = await nexfileOf('greeter');
        const started = await nex('--json', 'dev', 'up', '-d', '--data-dir', dataDir, ...FREE, '--node');
        const { pid } = JSON.parse(started) as DevStatus;
        await using _down = {
          async [Symbol.asyncDispose]() {
            await nex('dev', 'down', '--data-dir', dataDir);
            await waitFor('the services to be gone', () => !existsSync(`/proc/${pid}`));
          },
        };
        await nex('--context', 'ExpAdmin', 'cache', 'push', nexfile);
        await nex('--context', 'ExpAdmin', 'workload', 'start', '--nexfile', nexfile);
        await waitFor('the log', async () =>
          (await nex('--context', 'ExpAdmin', 'logs', 'greeter')).includes('by a flake'),
        );
      });

      /** Builds a Nexfile by the flake of a user, of a package that needs nothing. */
      async function nexfileOf(name: string): Promise<string> {
        const user = join(folder.path, 'user');
        await mkdir(user);
        const text = `{
          ${flake.inputs}
          outputs = { nixpkgs, nex-nix, ... }: {
            packages.${SYSTEM}.default = nex-nix.lib.mkNexWorkload {
              package = nixpkgs.legacyPackages.${SYSTEM}.runCommand "${name}" { meta.mainProgram = "busybox"; } ''
                mkdir -p "$out/bin" && cp ${findTool('busybox')} "$out/bin/busybox"
              '';
              lifecycle = "job";
              argv = [ "echo" "made by a flake" ];
              resources.memory = "64MiB";
            };
          };
        }`;
        await writeFile(join(user, 'flake.nix'), text);
        const options = ['--no-write-lock-file', '--no-link', '--json'];
        const result = await nix.run('nix', 'build', `path:${user}`, ...options);
        const [first] = JSON.parse(result.toString()) as { drvPath: string; outputs: { out: string } }[];
        derivation = first?.drvPath ?? '';
        return first?.outputs.out ?? '';
      }
    });
  });
});
