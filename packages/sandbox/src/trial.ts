import { randomBytes } from 'node:crypto';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SandboxError } from './sandbox-error.ts';
import type { Runtime } from './sandbox.ts';
import { temporaryFolder } from './temporary-folder.ts';
import { GATE_FAILED, gateFor, READY } from './warm/gate.ts';

const STORE_PATH = `/nix/store/${'0'.repeat(32)}-nex-trial`;

/**
 * Starts a sandbox with a program of this package's own and waits for what it prints: whether it works cannot be told by
 * looking at the machine alone. Nothing is left of it.
 *
 * @returns milliseconds that it took
 * @throws SandboxError as `create()` and `start()`; SANDBOX_START_FAILED
 */
export async function tryRuntime(runtime: Runtime): Promise<number> {
  const program = gateFor(process.arch);
  if (program === undefined) {
    throw new SandboxError('SANDBOX_START_FAILED', `Cannot try a sandbox: there is no program for ${process.arch}`);
  }
  await using folder = await temporaryFolder('trial');
  const source = join(folder.path, 'trial');
  await mkdir(join(source, 'bin'), { recursive: true });
  await writeFile(join(source, 'bin/trial'), program);
  for (const path of [folder.path, source, join(source, 'bin'), join(source, 'bin/trial')]) await chmod(path, 0o755);
  return await runTrial(runtime, source);
}

async function runTrial(runtime: Runtime, source: string): Promise<number> {
  const begin = performance.now();
  const sandbox = await runtime.create({
    id: `trial-${randomBytes(6).toString('hex')}`,
    closure: [{ storePath: STORE_PATH, source }],
    program: `${STORE_PATH}/bin/trial`,
    argv: [],
    environment: {},
    resources: {},
    network: 'none',
  });
  // One whose start failed is removed.
  await sandbox.start();
  try {
    const { code } = await sandbox.exited;
    const milliseconds = performance.now() - begin;
    for await (const { line } of sandbox.logs()) {
      // Without anything to read it says that it is there, and ends.
      if (code === GATE_FAILED && line[0] === READY) return milliseconds;
    }
    throw new SandboxError('SANDBOX_START_FAILED', `Cannot run a program in a sandbox: it ended with ${code}`);
  } finally {
    await sandbox.stop({ graceMs: 0 });
    await sandbox.remove();
  }
}
