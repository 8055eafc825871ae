import { mkdir, readdir, readFile, readlink, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';

export interface EchoBuild {
  /** The store path; the program is `bin/echo` in it. */
  storePath: string;
  /** Where its Node is from: nixpkgs through the flake, or this machine's own Node. */
  way: 'nixpkgs' | 'host-node';
  /** Whether Nix had to be asked; false when nothing has changed since the last time. */
  built: boolean;
}

export interface BuildEchoOptions {
  /** The result is linked, and kept from Nix's garbage collector, at `echo/result` below this folder. */
  dataDir: string;
  signal?: AbortSignal | undefined;
}

/** What the last build was made of, stored beside its result. */
interface Stamp {
  way: EchoBuild['way'];
  storePath: string;
  /** Fingerprint of each file that went into it, by absolute path. */
  inputs: Record<string, string>;
}

/**
 * Bundles the echo service and builds it as a Nix package: with nixpkgs where the machine has it, otherwise from the machine's own Node.
 * Errors: `EchoBuildError`.
 */
export async function buildEcho({ dataDir, signal }: BuildEchoOptions): Promise<EchoBuild> {
  const folder = join(resolve(dataDir), 'echo');
  const outLink = join(folder, 'result');
  const stampFile = join(folder, 'stamp.json');
  const last = await readStamp(stampFile);
  if (last !== undefined && (await isFresh(last, outLink))) {
    return { storePath: last.storePath, way: last.way, built: false };
  }
  await mkdir(folder, { recursive: true });
  // Loaded only now: the bundler takes longer to load than a build that has nothing to do.
  const { bundleEcho } = await import('./bundle.ts');
  const sources = [...(await bundleEcho()), ...(await ownFiles())];
  const { way, used } = await build(outLink, signal);
  const storePath = await readlink(outLink);
  const inputs = Object.fromEntries(
    await Promise.all([...sources, ...used].map(async (file) => [file, await fingerprint(file)] as const)),
  );
  await writeFile(stampFile, JSON.stringify({ way, storePath, inputs } satisfies Stamp));
  return { storePath, way, built: true };
}

async function build(outLink: string, signal: AbortSignal | undefined): Promise<{ way: Stamp['way']; used: string[] }> {
  const { buildWithNixpkgs } = await import('./build-with-nixpkgs.ts');
  if (await buildWithNixpkgs({ outLink, signal })) return { way: 'nixpkgs', used: [] };
  const { buildWithHostNode } = await import('./build-with-host-node.ts');
  return { way: 'host-node', used: await buildWithHostNode({ outLink, signal }) };
}

/** The files beside this one that say how to build. */
async function ownFiles(): Promise<string[]> {
  const folder = import.meta.dirname;
  const names = [...(await readdir(folder)), ...(await readdir(join(folder, 'nix'))).map((name) => join('nix', name))];
  return names.filter((name) => /\.(?:ts|nix|mjs)$/.test(name)).map((name) => join(folder, name));
}

/** Whether the result is still there and every file is as it was. */
async function isFresh(stamp: Stamp, outLink: string): Promise<boolean> {
  const checks = Object.entries(stamp.inputs).map(async ([file, was]) => (await fingerprint(file)) === was);
  const isLinked = readlink(outLink).then((target) => target === stamp.storePath, absent);
  const isThere = stat(outLink).then(() => true, absent);
  return (await Promise.all([isLinked, isThere, ...checks])).every(Boolean);
}

async function fingerprint(file: string): Promise<string> {
  const info = await stat(file, { bigint: true }).catch(absent);
  return info === undefined ? 'absent' : `${info.size}:${info.mtimeNs}`;
}

async function readStamp(file: string): Promise<Stamp | undefined> {
  const text = await readFile(file, 'utf8').catch(absent);
  try {
    return text === undefined ? undefined : (JSON.parse(text) as Stamp);
  } catch (error) {
    // Written half when the machine stopped: the build is done again.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function absent(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
  throw error;
}

if (import.meta.main) {
  const { storePath } = await buildEcho({ dataDir: process.argv[2] ?? '.data' });
  process.stdout.write(`${storePath}\n`);
}
