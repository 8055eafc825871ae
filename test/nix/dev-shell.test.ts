import { execFile } from 'node:child_process';
import { access, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { devEnvironment } from '@nex-nix/devenv';
import { describeEachNix, describeWith, type TempDir, tempDir } from '@nex-nix/test-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureCacheSecrets } from '../../packages/devenv/src/services/cache-secrets.ts';
import { ROOT, StubbedFlake, SYSTEM } from './flake.ts';

const run = promisify(execFile);

describeWith(['nix', 'bash'], 'development shell of the flake', () => {
  describeEachNix('with a stub of nixpkgs', (nix) => {
    if (!nix.isAtLeast('2.18')) {
      it.skip('(skipped: nixpkgs takes Nix 2.18 and later)');
      return;
    }

    let folder: TempDir;
    let flake: StubbedFlake;
    /** Stands for a checkout: its `nex` says what it was given. */
    let project: string;

    beforeAll(async () => {
      folder = await tempDir();
      flake = await StubbedFlake.make(folder.path);
      project = join(folder.path, 'project');
      await mkdir(join(project, 'packages/cli/bin'), { recursive: true });
      await mkdir(join(project, 'node_modules'));
      await mkdir(join(project, 'docs'));
      await writeFile(join(project, 'node_modules/.package-lock.json'), '{}');
      const said = 'console.log("nex", ...process.argv.slice(2), process.env.CNI_PATH)';
      await writeFile(join(project, 'packages/cli/bin/nex.js'), said);
    });
    afterAll(async () => {
      await flake.unbuild(nix, `devShells.${SYSTEM}.default`);
      await folder[Symbol.asyncDispose]();
    });

    it("has a menu in the seed's layout, of commands that are all there", async () => {
      const printed = await flake.develop(
        nix,
        project,
        'menu; type -P check fmt menu clean dev dev-init gifs nex >/dev/null && echo all',
      );
      expect(`\n${printed}`).toBe(`
[[general commands]]

  check    - run the checks of the flake
  fmt      - format the repo
  menu     - prints this menu

[development]

  clean    - remove stale network namespaces, interfaces, mounts and cgroups
  dev      - run local dev services
  dev-init - re-initialise data directory

[docs]

  gifs     - make the gifs of the docs
  vhs      - generate terminal gifs

[synadia]

  nats     - NATS Server and JetStream administration
  nex      - NATS Execution Engine CLI Version
  nsc      - creates NATS operators, accounts, users, and manage their permissions

all`);
    });

    it("runs this checkout's nex, also below its top folder and where sudo has replaced PATH", async () => {
      const script =
        'nex node ls "a b"; dev up -d; dev-init --yes; clean; PATH=/usr/bin:/bin "$(type -P nex)" --version';
      const printed = (await flake.develop(nix, join(project, 'docs'), script)).split('\n');
      expect(printed.map((line) => line.replace(/ \/nix\/store\/\S+-cni-plugins\/bin$/, ''))).toEqual([
        'nex node ls a b',
        'nex dev up -d',
        'nex dev init --yes',
        'nex clean',
        'nex --version',
      ]);
    });

    it('says outside a checkout that it needs one', async () => {
      const printed = await flake.develop(nix, folder.path, 'if nex; then echo ran; fi 2>&1');
      expect(printed).toBe(
        'Cannot run this outside a checkout of nex-nix: enter the shell in one, or run nix run .#nex',
      );
    });

    it('leaves Nix and git the settings of who enters it, though tools look elsewhere for theirs', async () => {
      const home = join(folder.path, 'home');
      await mkdir(join(home, '.config/git'), { recursive: true });
      await writeFile(join(home, '.config/git/config'), '');
      const fresh = `unset XDG_CONFIG_HOME NIX_USER_CONF_FILES GIT_CONFIG_GLOBAL; export HOME=${home}; eval "$shellHook"`;
      const twice = `${fresh}; eval "$shellHook"; echo "$NIX_USER_CONF_FILES"; echo "$GIT_CONFIG_GLOBAL"`;
      expect((await flake.develop(nix, project, twice)).split('\n')).toEqual([
        `${home}/.config/nix/nix.conf`,
        `${home}/.config/git/config`,
      ]);
    });

    it('points tools at the same folders as nex dev env does', async () => {
      const dataDir = join(project, '.data');
      await ensureCacheSecrets(dataDir);
      const known = await devEnvironment(dataDir);
      const names = Object.entries(known).filter(([, value]) => value.startsWith(dataDir));
      const folders = Object.fromEntries(names.filter(([name]) => !name.startsWith('NEX_')));
      const printed = await flake.develop(
        nix,
        project,
        `for name in ${Object.keys(folders).join(' ')}; do echo "\${!name}"; done`,
      );
      expect(printed.split('\n')).toEqual(Object.values(folders));
      expect(Object.keys(folders)).toEqual(expect.arrayContaining(['NSC_HOME', 'BINARY_CACHE_NETRC']));
    });
  });
});

describe('.envrc', () => {
  it('uses the flake, and watches files that are there', async () => {
    const script = 'watch_file() { printf "%s\\n" "$@"; }; use() { echo "use $*"; }; source .envrc';
    const { stdout } = await run('bash', ['-euc', script], { cwd: ROOT });
    const lines = stdout.trim().split('\n');
    expect(lines.at(-1)).toBe('use flake');
    // Made by the first command of Nix.
    const watched = lines.slice(0, -1).filter((file) => file !== 'flake.lock');
    expect(watched).toContain('flake.nix');
    for (const file of watched) await access(join(ROOT, file));
  });
});
