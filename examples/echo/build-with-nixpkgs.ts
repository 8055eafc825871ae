import type { BuildOptions } from './build-with-host-node.ts';
import { EchoBuildError } from './echo-build-error.ts';
import { nixEnvironment } from './nix-environment.ts';
import { needTool, run } from './run-tool.ts';

const NODE = 'nixpkgs#nodejs-slim_24';

/** A cache that does not answer must not hold the build up, and Node must not be compiled in its place. */
const IMPATIENT = [
  '--option',
  'connect-timeout',
  '3',
  '--option',
  'download-attempts',
  '1',
  '--max-jobs',
  '0',
  '--builders',
  '',
];

/**
 * Builds the flake with the nixpkgs of the machine's registry. Returns whether that was possible: the nixpkgs must be on the machine already
 * (as on NixOS, or once it was used), and its Node in the store or to be had from a cache at once.
 */
export async function buildWithNixpkgs({ outLink, signal }: BuildOptions): Promise<boolean> {
  const nix = await needTool('nix', 'apt-get install nix-bin');
  const env = await nixEnvironment();
  const possible =
    (await succeeds(nix, ['eval', '--offline', '--raw', `${NODE}.outPath`], { env, signal })) &&
    (await succeeds(nix, ['build', '--no-link', ...IMPATIENT, NODE], { env, signal }));
  if (!possible) return false;
  const flake = `path:${import.meta.dirname}`;
  const inputs = ['--override-input', 'nixpkgs', 'nixpkgs', '--no-write-lock-file'];
  await run(nix, ['build', flake, ...inputs, '--out-link', outLink], { env, signal });
  return true;
}

async function succeeds(
  nix: string,
  args: string[],
  options: { env: NodeJS.ProcessEnv; signal?: AbortSignal | undefined },
) {
  try {
    await run(nix, args, options);
    return true;
  } catch (error) {
    if (error instanceof EchoBuildError) return false;
    throw error;
  }
}
