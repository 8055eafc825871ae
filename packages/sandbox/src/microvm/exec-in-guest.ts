import { type Exec, type GuestConnection, GuestError } from '@nex-nix/guest';
import { SandboxError } from '../sandbox-error.ts';
import type { ExecResult, ExecSpec } from '../sandbox.ts';
import { validateExec } from '../validate-spec.ts';

/** What a command has whose sandbox ended around it. */
const ENDED: ExecResult = { code: 137, output: '' };

export interface ExecPlace {
  id: string;
  /** Undefined when it does not run. */
  connection: GuestConnection | undefined;
  /** Aborted when the sandbox has ended. */
  ended: AbortSignal;
}

/**
 * Runs one more command in a guest.
 *
 * @throws SandboxError SANDBOX_SPEC_INVALID, SANDBOX_EXEC_FAILED; the reason of the spec's signal
 */
export async function execInGuest({ id, connection, ended }: ExecPlace, spec: ExecSpec): Promise<ExecResult> {
  validateExec(id, spec);
  const { program, argv, environment = {}, signal } = spec;
  signal?.throwIfAborted();
  const failed = (why: string, cause?: unknown) =>
    new SandboxError('SANDBOX_EXEC_FAILED', `Cannot run "${program}" in the sandbox "${id}": ${why}`, { cause });
  if (connection === undefined) throw failed('it is not running');
  try {
    const request: Exec = { type: 'exec', program, argv: [...argv], environment: { ...environment } };
    const { code, output } = await connection.request(request, { signal });
    // As a stream: a character that is cut off at the end is left out.
    return { code, output: new TextDecoder().decode(Buffer.from(output, 'base64'), { stream: true }) };
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof GuestError)) throw error;
    if (error.code === 'GUEST_REFUSED') throw failed(error.message, error);
    if (ended.aborted || error.code === 'GUEST_DISCONNECTED') return ENDED;
    throw failed(error.message, error);
  }
}
