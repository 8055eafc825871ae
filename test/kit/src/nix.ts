import { execFile, execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe } from 'vitest';
import { findTool, TEST_TOOLS } from './tools.ts';

/** A real Nix: offline, as root, without its own sandbox. */
export interface RealNix {
  /** `2.8.0`. */
  readonly version: string;
  /** Whether this Nix is `version` or later, for example `2.19`. */
  isAtLeast(version: string): boolean;
  /** The environment to run its commands in: they come first on PATH. */
  readonly env: NodeJS.ProcessEnv;
  /** stdout of one of its commands, as bytes. What it prints on stderr is in the error when it fails. */
  run(command: string, ...args: readonly string[]): Promise<Buffer>;
  /** The same with `input` on stdin. */
  runWithInput(input: Uint8Array | string, command: string, ...args: readonly string[]): Promise<Buffer>;
}

const OUTPUT_MAX = 1024 * 1024 * 1024;

/** `describe` once with the Nix of this machine and once with the newest one, each skipped by name where it is absent. */
export function describeEachNix(title: string, body: (nix: RealNix) => void): void {
  const system = findTool('nix');
  const newest = join(TEST_TOOLS, 'nix-newest/bin');
  if (system === undefined) describe.skip(`${title} (skipped: nix not installed)`, () => undefined);
  else describeNix(title, dirname(system), body);
  if (existsSync(join(newest, 'nix'))) describeNix(title, newest, body);
  else describe.skip(`${title} (skipped: nix-newest not installed)`, () => undefined);
}

function describeNix(title: string, bin: string, body: (nix: RealNix) => void): void {
  const nix = realNix(bin);
  describe(`${title} (Nix ${nix.version})`, () => body(nix));
}

function realNix(bin: string): RealNix {
  const env = {
    ...process.env,
    PATH: `${bin}:${process.env['PATH'] ?? ''}`,
    NIX_CONFIG: 'substituters =\nsandbox = false\nbuild-users-group =\nexperimental-features = nix-command flakes',
  };
  const printed = execFileSync(join(bin, 'nix'), ['--version'], { env, encoding: 'utf8' });
  const version = printed.trim().split(' ').at(-1) ?? '';
  const runWithInput = (input: Uint8Array | string, command: string, ...args: readonly string[]) =>
    new Promise<Buffer>((resolve, reject) => {
      const options = { env, encoding: 'buffer', maxBuffer: OUTPUT_MAX } as const;
      const child = execFile(command, args, options, (error, stdout) => {
        if (error === null) resolve(stdout);
        else reject(error);
      });
      // A command that does not read its input to the end says why by its exit code.
      child.stdin?.on('error', () => undefined).end(input);
    });
  return {
    version,
    isAtLeast: (wanted) => wanted.localeCompare(version, 'en', { numeric: true }) <= 0,
    env,
    run: (command, ...args) => runWithInput('', command, ...args),
    runWithInput,
  };
}
