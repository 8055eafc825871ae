import { setTimeout as delay } from 'node:timers/promises';
import { hasErrno } from '../../file-errors.ts';
import { SandboxError } from '../../sandbox-error.ts';
import { connectUnix } from '../unix-connection.ts';
import type { VmmProcess } from '../vmm-process.ts';
import { FirecrackerApi } from './firecracker-api.ts';
import { type FirecrackerFiles, NAMES } from './firecracker-files.ts';

/** Milliseconds between two attempts. Nothing tells when a socket is listened at. */
const TRY_AGAIN = 2;

/** Milliseconds for a process to become Firecracker and to listen: a few, on a machine that is not overloaded. */
const TIMEOUT = 15_000;

/**
 * Waits until a Firecracker that was launched listens at its API socket.
 *
 * @throws SandboxError SANDBOX_VMM_FAILED when it ends before, or takes too long
 */
export async function untilListening(process: VmmProcess, files: FirecrackerFiles): Promise<FirecrackerApi> {
  const deadline = performance.now() + TIMEOUT;
  for (;;) {
    try {
      (await connectUnix(files.root, NAMES.api)).destroy();
      return new FirecrackerApi(files.root, NAMES.api);
    } catch (error) {
      if (!hasErrno(error, 'ENOENT', 'ECONNREFUSED')) throw error;
      if (!(await process.isAlive())) throw failed('it has ended before it was told anything', error);
      if (performance.now() > deadline) throw failed(`it does not listen after ${TIMEOUT / 1000} s`, error);
    }
    await delay(TRY_AGAIN);
  }
}

function failed(why: string, cause: unknown): SandboxError {
  return new SandboxError('SANDBOX_VMM_FAILED', `Cannot reach Firecracker: ${why}`, { cause });
}
