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
  'packages/errors',
  'packages/guest',
  'packages/nix',
  'packages/sandbox',
];
/** As Nix calls the machine that this runs on. */
export const SYSTEM = `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux`;

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
      // Any ELF file stands for a kernel.
      vmlinux: await realpath(findTool('bash') ?? ''),
    };
    await writeFile(join(flake.#nixpkgs, 'machine.json'), JSON.stringify(machine));
    return flake;
  }

  /** Runs a command of `nix`: `words` are what stands before the flake, `output` what follows its `#`. Gives what it prints. */
  async run(nix: RealNix, words: readonly string[], output?: string): Promise<string> {
    const flake = `path:${this.folder}${output === undefined ? '' : `#${output}`}`;
    // The newest Nix was unpacked, not installed: it does not find its own helper to build elsewhere.
    const alone = nix.isAtLeast('2.18') ? ['--option', 'build-hook', ''] : [];
    const options = [...alone, '--no-write-lock-file', '--override-input', 'nixpkgs', `path:${this.#nixpkgs}`];
    return (await nix.run('nix', ...words, flake, ...options)).toString().trim();
  }

  /** Builds a package, or another output by its whole name. Gives its store path. */
  async build(nix: RealNix, output: string): Promise<string> {
    const built = JSON.parse(await this.run(nix, ['build', '--no-link', '--json'], output)) as {
      outputs: { out: string };
    }[];
    return built[0]?.outputs.out ?? '';
  }

  /** Removes all that was built for an output, named in full, from the machine's store. */
  async unbuild(nix: RealNix, output: string): Promise<void> {
    const derivation = JSON.parse(await this.run(nix, ['eval', '--json'], `${output}.drvPath`)) as string;
    const made = await nix.run('nix-store', '--query', '--requisites', '--include-outputs', derivation);
    // Sources are what they are, also for others.
    const own = made
      .toString()
      .trim()
      .split('\n')
      .filter((path) => !/-(?:source|assemble\.sh)$/.test(path));
    await nix.run('nix-store', '--delete', ...own);
  }
}
