import { cp, mkdir, realpath, writeFile } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { findTool, type RealNix } from '@nex-nix/test-kit';

/** Of the repository. */
export const ROOT = join(import.meta.dirname, '../..');

/** What the flake's outputs are made of; never the folders with what was built or installed. */
const PARTS = [
  'flake.nix',
  'nix',
  'tsconfig.base.json',
  'package.json',
  'package-lock.json',
  'packages',
  'examples/echo',
];
/** As Nix calls the machine that this runs on. */
export const SYSTEM = `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux`;

/** Store paths that are the same for everyone: made of a file alone. */
const SHARED = /-(?:source|assemble\.sh|install-echo\.mjs|make-wrapper\.sh|menu\.txt)$/;

const NO_SOURCES = /\/(?:dist|node_modules|test)$/;

/** This repository's flake in a folder of its own, with the stub beside this file for its nixpkgs. */
export class StubbedFlake {
  readonly folder: string;
  readonly #nixpkgs: string;

  private constructor(folder: string, nixpkgs: string) {
    this.folder = folder;
    this.#nixpkgs = nixpkgs;
  }

  static async make(folder: string): Promise<StubbedFlake> {
    const flake = new StubbedFlake(join(folder, 'flake'), join(folder, 'nixpkgs'));
    const filter = (source: string) => !NO_SOURCES.test(source);
    for (const part of PARTS) {
      await mkdir(dirname(join(flake.folder, part)), { recursive: true });
      await cp(join(ROOT, part), join(flake.folder, part), { recursive: true, filter });
    }
    await cp(join(import.meta.dirname, 'stub-nixpkgs'), flake.#nixpkgs, { recursive: true });
    // Everything that is built names this folder, so that nobody else's builds are the same.
    const own = join(flake.#nixpkgs, 'bin');
    const path = [
      own,
      dirname(process.execPath),
      join(ROOT, 'node_modules/.bin'),
      process.env['PATH'],
      '/usr/sbin',
      '/sbin',
    ];
    const machine = {
      path: path.join(delimiter),
      bash: findTool('bash'),
      installed: ROOT,
      // Any ELF file stands for a kernel.
      vmlinux: await realpath(findTool('bash') ?? ''),
    };
    await writeFile(join(flake.#nixpkgs, 'machine.json'), JSON.stringify(machine));
    return flake;
  }

  /** Runs a command of `nix`: `words` are what stands before the flake, `output` what follows its `#`. Gives what it prints. */
  async run(nix: RealNix, words: readonly string[], output?: string): Promise<string> {
    return (await nix.run('nix', ...words, ...this.#reference(nix, output))).toString().trim();
  }

  /** Runs a script in the development shell, entered in a folder. Gives what it prints. */
  async develop(nix: RealNix, folder: string, script: string): Promise<string> {
    // The shell is entered where the tests run, so that its hook has to run once more.
    const words = ['--command', 'bash', '-c', `cd '${folder}' && eval "$shellHook" && ${script}`];
    // Nix leaves the folders that it makes for a shell behind.
    const temporary = join(dirname(this.folder), 'temporary');
    await mkdir(temporary, { recursive: true });
    const entered = ['nix', 'develop', ...this.#reference(nix), ...words];
    return (await nix.run('env', `TMPDIR=${temporary}`, ...entered)).toString().trim();
  }

  #reference(nix: RealNix, output?: string): string[] {
    const flake = `path:${this.folder}${output === undefined ? '' : `#${output}`}`;
    // The newest Nix was unpacked, not installed: it does not find its own helper to build elsewhere.
    const alone = nix.isAtLeast('2.18') ? ['--option', 'build-hook', ''] : [];
    return [flake, ...alone, '--no-write-lock-file', '--override-input', 'nixpkgs', `path:${this.#nixpkgs}`];
  }

  /** Builds a package, or another output by its whole name. Gives its store path. */
  async build(nix: RealNix, output: string): Promise<string> {
    const built = JSON.parse(await this.run(nix, ['build', '--no-link', '--json'], output)) as {
      outputs: { out: string };
    }[];
    return built[0]?.outputs.out ?? '';
  }

  /** What a flake of somebody else says of its inputs: this one, and the same nixpkgs. */
  get inputs(): string {
    return `inputs = {
      nixpkgs.url = "path:${this.#nixpkgs}";
      nex-nix = { url = "path:${this.folder}"; inputs.nixpkgs.follows = "nixpkgs"; };
    };`;
  }

  /** Removes all that was built for an output, named in full, from the machine's store, and what was built with that. */
  async unbuild(nix: RealNix, output: string): Promise<void> {
    await this.remove(nix, JSON.parse(await this.run(nix, ['eval', '--json'], `${output}.drvPath`)) as string);
  }

  /** The same for a derivation, by its store path. */
  async remove(nix: RealNix, derivation: string): Promise<void> {
    const query = async (...words: string[]) =>
      (await nix.run('nix-store', '--query', ...words)).toString().trim().split('\n');
    const made = await query('--requisites', '--include-outputs', derivation);
    // Sources are what they are, also for others.
    const own = made.filter((path) => !SHARED.test(path));
    await nix.run('nix-store', '--delete', ...(await query('--referrers-closure', ...own)));
  }
}
