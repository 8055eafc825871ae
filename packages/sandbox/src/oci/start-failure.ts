import { SandboxError } from '../sandbox-error.ts';
import type { SandboxFiles } from './sandbox-files.ts';
import type { Exit, SandboxSpec } from '../sandbox.ts';

/** What is known of a start that failed. */
export interface StartEvidence {
  /** How the OCI runtime ended. */
  exit: Exit | undefined;
  /** What it said when it could not execute the program. */
  complaint: string | undefined;
  /** How its supervisor ended, for people; of a sandbox that has one. */
  supervisor?: string;
}

/** The error that says why a sandbox could not be started. */
export async function startFailure(
  spec: SandboxSpec,
  files: SandboxFiles,
  { exit, complaint, supervisor }: StartEvidence,
) {
  const fail = (state: string, hint?: string) =>
    new SandboxError('SANDBOX_START_FAILED', `Cannot start "${spec.program}": ${state}`, { hint });
  if (complaint !== undefined) {
    if (complaint.endsWith('No such file or directory')) {
      return fail(
        'the interpreter or dynamic loader that it names is not in its closure',
        'Build it with Nix, which rewrites these, or link it statically',
      );
    }
    if (complaint.endsWith('Exec format error')) {
      return fail('it is no program for this machine', `file ${spec.program}`);
    }
    return fail(complaint);
  }
  const { memory } = spec.resources;
  if (exit?.outOfMemory && memory !== undefined) {
    return fail(
      `its memory limit of ${memory} bytes was reached before it had started`,
      'Give it more, at least 8 MiB',
    );
  }
  const said = (await files.runtimeComplaint()) ?? (await files.supervisorComplaint());
  if (said !== '') return fail(said);
  if (exit !== undefined)
    return fail(`its OCI runtime ended without a word (${exit.signal ?? `exit code ${exit.code}`})`);
  return fail(supervisor === undefined ? 'it ended without a word' : `its supervisor ended too early (${supervisor})`);
}
