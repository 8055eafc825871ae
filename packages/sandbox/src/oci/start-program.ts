import { writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { abortable } from '../abortable.ts';
import { checkProgram } from '../bundle/closure.ts';
import type { SandboxCgroup } from '../cgroup/cgroup.ts';
import type { SandboxSpec } from '../sandbox.ts';
import type { FolderWatch } from '../supervisor/folder-watch.ts';
import { executableOf, signalProcess } from '../supervisor/process-identity.ts';
import type { SpareSupervisors } from '../supervisor/spare-supervisors.ts';
import type { Supervisor } from '../supervisor/supervisor.ts';
import type { SandboxFiles } from './sandbox-files.ts';
import { startFailure } from './start-failure.ts';

/** Supervisors that are tried. */
const MAX_TRIES = 3;

/** What only a sandbox that is still to be started has. */
export interface StartInput {
  spec: SandboxSpec;
  /** Text of the bundle's `config.json`. */
  config: string;
  /** Absolute path of the OCI runtime. */
  runtime: string;
  /** The program's user, as this machine numbers it. */
  owner: number;
  /** Bytes of each output stream that are kept on disk. */
  logBytes: number;
}

/** The sandbox that is started. */
export interface StartTarget {
  files: SandboxFiles;
  cgroup: SandboxCgroup;
  watch: FolderWatch;
  spares: SpareSupervisors;
}

/**
 * Starts a sandbox' program; resolves when it has been executed. A failed start leaves no process.
 *
 * @throws SandboxError SANDBOX_PROGRAM_NOT_FOUND, SANDBOX_PROGRAM_NOT_EXECUTABLE, SANDBOX_START_FAILED
 */
export async function startProgram(
  target: StartTarget,
  input: StartInput,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { files, cgroup, watch, spares } = target;
  const { spec, config, runtime, owner, logBytes } = input;
  checkProgram(spec);
  using _ = spares.starting();
  let taking = spares.take();
  try {
    let [supervisor] = await Promise.all([taking, cgroup.create(spec.resources)]);
    writeFileSync(files.config, config, { mode: 0o600 });
    if (spec.resources.pids !== undefined) files.keepPidsLimit(spec.resources.pids);
    signal?.throwIfAborted();
    const { logRate } = spec.resources;
    for (let left = MAX_TRIES; ; left--) {
      supervisor.run({ id: spec.id, files, cgroup, runtime, owner, logBytes, logRate });
      void supervisor.ended.next().then(() => watch.state.fire());
      if (await untilStarted(target, supervisor, { spec, signal, again: left > 1 })) return;
      taking = spares.take();
      supervisor = await taking;
    }
  } catch (error) {
    await giveUp(files, taking);
    throw error;
  }
}

/**
 * Until the program runs, or has run; throws when it does not come to that. With `again` it gives false when the
 * supervisor was killed before it took over, as one that waits can be at any time: then nothing of the sandbox began.
 */
async function untilStarted(
  { files, watch }: StartTarget,
  supervisor: Supervisor,
  { spec, signal, again }: { spec: SandboxSpec; signal: AbortSignal | undefined; again: boolean },
): Promise<boolean> {
  for (;;) {
    const changed = Promise.race([watch.state.next(), watch.logs.next()]);
    // Asked first: what a supervisor that has ended has left is complete.
    const ended = supervisor.hasEnded;
    const exit = await files.exit();
    // Asked last: it is written before the exit.
    const begun = await files.begun();
    if (exit !== undefined || ended) {
      const complaint = await files.executionComplaint();
      if (exit !== undefined && begun && complaint === undefined) return true;
      if (again && exit === undefined && (await files.supervisor()) === undefined) return false;
      throw await startFailure(spec, files, { exit, complaint, supervisor: supervisor.outcome });
    }
    // Nothing but the program writes there.
    if (begun && files.hasOutput) return true;
    const program = begun ? await files.program() : undefined;
    if (program === undefined) {
      // Gone already if it has begun: the supervisor is about to say how it ended.
      await abortable(changed, signal);
    } else {
      // The runtime writes the process id down at about the time when it lets the program be executed: the first process
      // executes the same file as the runtime, its parent, until then.
      const [executed, runtime] = await Promise.all([executableOf(program.pid), executableOf(program.parent)]);
      if (executed !== undefined && executed !== runtime) return true;
      await (executed === undefined ? abortable(changed, signal) : delay(1, undefined, { signal }));
    }
  }
}

/** Ends a start half way. Everything of it is in the cgroup, or else in the process group of its supervisor. */
async function giveUp(files: SandboxFiles, taking: Promise<Supervisor>): Promise<void> {
  const supervisor = await taking.catch(() => undefined);
  const program = await files.program();
  if (program !== undefined) await signalProcess(program, 'SIGKILL');
  await supervisor?.kill();
}
