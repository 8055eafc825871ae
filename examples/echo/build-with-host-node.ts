import { chmod, copyFile, mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { BUNDLE } from './bundle.ts';
import { EchoBuildError } from './echo-build-error.ts';
import { nixEnvironment } from './nix-environment.ts';
import { needTool, run } from './run-tool.ts';

/** Parts of the C library that it loads by itself, by name, to look hosts up. */
const LOADED_BY_NAME = ['libresolv.so.2', 'libnss_files.so.2', 'libnss_dns.so.2'];

export interface BuildOptions {
  /** Link to the result, which also keeps it from Nix's garbage collector. */
  outLink: string;
  signal?: AbortSignal | undefined;
}

/**
 * Builds the package from the Node that runs this and the libraries that it loads. Returns the files of the machine that went into it.
 * Node must be linked with the GNU C library, as all official builds are.
 */
export async function buildWithHostNode({ outLink, signal }: BuildOptions): Promise<string[]> {
  const nixBuild = await needTool('nix-build', 'apt-get install nix-bin');
  const patchelf = await realpath(await needTool('patchelf', 'apt-get install patchelf'));
  const node = await realpath(process.execPath);
  const { loader, libraries } = await librariesOf([node, patchelf], signal);
  const runtime = await mkdtemp(join(dirname(outLink), 'runtime-'));
  try {
    await stage(runtime, libraries, patchelf);
    const values = {
      system: `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux`,
      bundle: BUNDLE,
      node,
      runtime,
      loader,
      nodeVersion: process.versions.node,
      glibcVersion: glibcVersion(),
    };
    const args = Object.entries(values).flatMap(([name, value]) => ['--argstr', name, value]);
    const env = await nixEnvironment(['substituters =']);
    await run(nixBuild, [join(import.meta.dirname, 'nix/default.nix'), '--out-link', outLink, ...args], {
      env,
      signal,
    });
  } finally {
    await rm(runtime, { recursive: true });
  }
  return [node, patchelf, ...libraries.values()];
}

/** The libraries that programs load, by the name under which they are asked for, and the name of the loader among them. */
async function librariesOf(programs: string[], signal: AbortSignal | undefined) {
  const ldd = await needTool('ldd', 'apt-get install libc-bin');
  const libraries = new Map<string, string>();
  let loader: string | undefined;
  for (const program of programs) {
    // Lines are `libm.so.6 => /lib/…/libm.so.6 (0x…)`, and `/lib64/ld-linux-x86-64.so.2 (0x…)` for the loader.
    for (const line of (await run(ldd, [program], { signal })).split('\n')) {
      const [, name, target] = /^\s*(\S+)(?: => (\S+))? \(0x/.exec(line) ?? [];
      const path = target ?? name;
      if (name === undefined || path === undefined || !path.startsWith('/')) continue;
      libraries.set(basename(name), await realpath(path));
      if (basename(name).startsWith('ld-linux')) loader = basename(name);
    }
  }
  if (loader === undefined) {
    throw new EchoBuildError(
      'ECHO_BUILD_FAILED',
      `Cannot package "${programs[0]}": it does not load the GNU C library`,
    );
  }
  const folder = dirname(libraries.get('libc.so.6') ?? '/');
  for (const name of LOADED_BY_NAME) {
    if (existsSync(join(folder, name))) libraries.set(name, await realpath(join(folder, name)));
  }
  return { loader, libraries };
}

async function stage(runtime: string, libraries: Map<string, string>, patchelf: string): Promise<void> {
  await Promise.all([mkdir(join(runtime, 'lib')), mkdir(join(runtime, 'bin'))]);
  await copyFile(patchelf, join(runtime, 'bin/patchelf'));
  for (const [name, path] of libraries) {
    const copy = join(runtime, 'lib', name);
    await copyFile(path, copy);
    await chmod(copy, 0o755);
  }
}

function glibcVersion(): string {
  const { header } = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return header?.glibcVersionRuntime ?? 'unknown';
}
