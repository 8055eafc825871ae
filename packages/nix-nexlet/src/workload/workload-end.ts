import { type Exit, type Sandbox, SandboxError } from '@nex-nix/sandbox';

/** The code of a workload whose program did not end by itself: it is gone, as after a crash of the machine it ran on. */
const LOST = 'LOST';

/** How a workload, or one run of it, ended. */
export interface WorkloadEnd {
  readonly state: 'stopped' | 'error';
  /** ISO 8601. */
  readonly time: string;
  /** What went wrong, if anything did. */
  readonly error?: { readonly code: string; readonly message: string } | undefined;
  readonly exitCode?: number;
  /** Whether the NATS server has the news of it. */
  readonly told?: boolean;
}

/**
 * What becomes of a workload whose sandbox ended so. `wanted`: somebody asked for its end. `unhealthy`: why its node ended
 * it.
 */
export function endOf(
  { code, signal, outOfMemory, reason }: Exit,
  { wanted, unhealthy }: { wanted: boolean; unhealthy?: string | undefined },
): WorkloadEnd {
  const time = new Date().toISOString();
  const exit = code === undefined ? {} : { exitCode: code };
  const failed = (error: WorkloadEnd['error']): WorkloadEnd => ({ state: 'error', time, error, ...exit });
  if (unhealthy !== undefined && !wanted) return failed({ code: 'UNHEALTHY', message: unhealthy });
  if (wanted || code === 0) return { state: 'stopped', time, ...exit };
  if (outOfMemory) return failed({ code: 'OUT_OF_MEMORY', message: 'it used more memory than its limit' });
  if (code === undefined)
    return failed({ code: LOST, message: reason ?? 'it ended while no node was there to see how' });
  const message = signal === undefined ? `it ended with exit code ${code}` : `it was ended by ${signal}`;
  return failed({ code: signal ?? String(code), message });
}

/** The end of what is gone without a trace. */
export function lostEnd(): WorkloadEnd {
  return endOf({ outOfMemory: false }, { wanted: false });
}

/** Whether a workload vanished rather than ended. */
export function isLost({ error }: WorkloadEnd): boolean {
  return error?.code === LOST;
}

/** How a sandbox ended; undefined when it is let go of before. */
export async function exitOf({ exited }: Sandbox): Promise<Exit | undefined> {
  try {
    return await exited;
  } catch (error) {
    if (error instanceof SandboxError && error.code === 'SANDBOX_RELEASED') return undefined;
    throw error;
  }
}
