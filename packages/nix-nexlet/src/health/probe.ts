/** What one check found out. `unknown`: nothing about the program, as while the NATS server is away. */
export type ProbeResult =
  | { readonly kind: 'healthy' }
  /** `why` completes "its health check failed: …". */
  | { readonly kind: 'failed' | 'unknown'; readonly why: string };

/** One way to find out whether a program does its work. */
export interface Probe extends AsyncDisposable {
  /** One check; one at a time. Ends soon after `signal` is aborted, when its time is over, and rejects never. */
  check(signal: AbortSignal): Promise<ProbeResult>;
}

export const HEALTHY: ProbeResult = { kind: 'healthy' };

export function failed(why: string): ProbeResult {
  return { kind: 'failed', why };
}

export function unknown(why: string): ProbeResult {
  return { kind: 'unknown', why };
}
