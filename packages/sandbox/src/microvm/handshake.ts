import { setTimeout as delay } from 'node:timers/promises';
import { GuestConnection, GuestError } from '@nex-nix/guest';
import { SandboxError } from '../sandbox-error.ts';
import type { LogPosition } from '../sandbox.ts';
import type { Vm } from '../vmm/vmm.ts';

/** Time between two attempts while nobody listens in the guest. Nothing tells of the moment when somebody does. */
const RETRY_MS = 50;

/** Pings without an answer after which a guest is taken for dead. */
const HEARTBEAT_MISSES = 3;

/** Lines of the console that an error shows. */
const CONSOLE_LINES = 40;

export interface GreetOptions {
  /** For errors: who or what cannot be started, or reached. */
  what: string;
  /** Bytes of output that are safe already. @default none */
  have?: LogPosition | undefined;
  timeoutMs: number;
  /** Between two pings; 0: none. */
  heartbeatMs: number;
  signal?: AbortSignal | undefined;
}

/**
 * Connects to the agent of a machine, which may still boot.
 *
 * @throws SandboxError SANDBOX_START_FAILED with the end of the guest's console, SANDBOX_GUEST_FAILED; the reason of the signal
 */
export async function greetGuest(vm: Vm, options: GreetOptions): Promise<GuestConnection> {
  const { have, timeoutMs, heartbeatMs, signal, what } = options;
  const deadline = performance.now() + timeoutMs;
  const ended = new AbortController();
  const watch = abortAtEnd(vm, ended);
  const signals = AbortSignal.any([ended.signal, ...(signal === undefined ? [] : [signal])]);
  for (;;) {
    try {
      const left = Math.max(1, Math.ceil(deadline - performance.now()));
      const channel = await vm.connect({ signal: AbortSignal.any([signals, AbortSignal.timeout(left)]) });
      const heartbeat = { intervalMs: heartbeatMs, misses: HEARTBEAT_MISSES };
      return await GuestConnection.open(channel, {
        ...(have === undefined ? {} : { have }),
        signal: signals,
        timeoutMs: left,
        ...(heartbeatMs === 0 ? {} : { heartbeat }),
      });
    } catch (error) {
      signal?.throwIfAborted();
      if (ended.signal.aborted) await watch;
      const again = !ended.signal.aborted && performance.now() + RETRY_MS < deadline && isEarly(error);
      if (!isExpected(error) && !ended.signal.aborted) throw error;
      if (!again) throw await failure(vm, { what, timeoutMs, error, ended: ended.signal });
      await delay(RETRY_MS, undefined, { signal: signals }).catch(() => undefined);
    }
  }
}

async function abortAtEnd(vm: Vm, ended: AbortController): Promise<void> {
  const { reason, detail } = await vm.exited;
  ended.abort(new SandboxError('SANDBOX_START_FAILED', endedText(reason, detail)));
}

/** Whether an error says no more than that nobody listens yet. */
function isEarly(error: unknown): boolean {
  if (error instanceof GuestError) return error.code === 'GUEST_DISCONNECTED';
  return error instanceof SandboxError;
}

/** Whether an error is about the guest. Anything else is about this program. */
function isExpected(error: unknown): boolean {
  return error instanceof GuestError || error instanceof SandboxError || isTimeout(error);
}

function isTimeout(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'TimeoutError';
}

async function failure(
  vm: Vm,
  { what, timeoutMs, error, ended }: { what: string; timeoutMs: number; error: unknown; ended: AbortSignal },
): Promise<SandboxError> {
  const said = await consoleText(vm);
  const why = ended.aborted
    ? (ended.reason as Error).message
    : error instanceof GuestError && error.code !== 'GUEST_TIMEOUT' && error.code !== 'GUEST_DISCONNECTED'
      ? error.message
      : `its guest did not answer within ${timeoutMs / 1000} s`;
  const hint = (error instanceof GuestError ? error.hint : undefined) ?? 'nex guest show';
  return new SandboxError('SANDBOX_START_FAILED', `Cannot start ${what}: ${why}; ${said}`, { cause: error, hint });
}

/** The end of a guest's console, for errors. The guest may have written anything there, also what a terminal obeys. */
export async function consoleText(vm: Vm): Promise<string> {
  const printable = (await vm.consoleTail()).replaceAll(/[^\P{C}\n\t]/gu, '').trim();
  const lines = printable.split('\n').slice(-CONSOLE_LINES).join('\n');
  return lines === '' ? 'its console is empty' : `last lines of its console:\n${lines}`;
}

/** What a machine's end is called. */
export function endedText(reason: string, detail: string): string {
  const what: Record<string, string> = {
    shutdown: 'its guest switched itself off',
    reset: 'its guest panicked or rebooted',
    panic: 'its guest panicked',
    killed: 'its virtual machine was killed',
    failed: 'its virtual machine manager gave up',
  };
  const text = what[reason] ?? 'its virtual machine ended';
  return detail.trim() === '' ? text : `${text} (${detail.trim()})`;
}
