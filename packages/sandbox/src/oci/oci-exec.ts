import { randomUUID } from 'node:crypto';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import type { SandboxCgroup } from '../cgroup/cgroup.ts';
import type { ExecCgroup } from '../cgroup/exec-cgroup.ts';
import { hasErrno } from '../file-errors.ts';
import { SandboxError } from '../sandbox-error.ts';
import type { ExecResult, ExecSpec } from '../sandbox.ts';
import { isAlive, type ProcessIdentity, signalGroup } from '../supervisor/process-identity.ts';
import { validateExec } from '../validate-spec.ts';
import { type KeptConfig, parseComplaints, type SandboxFiles } from './sandbox-files.ts';

const MAX_OUTPUT = 4096;

/** A program can make its environment as large as its memory; this much of it is read. */
const MAX_ENVIRONMENT = 1 << 20;

/**
 * Runs the OCI runtime's `exec`. Arguments: sandbox id, state folder of the runtime, log file, version 2 mount to hide
 * (or empty), the program's user outside, the OCI runtime, out-of-memory score, how much output is wanted, then the
 * files by which cgroups are entered.
 *
 * The process to run comes on standard input and goes on through a pipe, since it holds the environment: it is on no
 * disk. Read to its end, that pipe becomes the command's standard input. Its output goes through another one, of its
 * user, so that it can open it again by name; what is too much is read and forgotten. The status goes to descriptor 3.
 */
const EXEC = `
id=$1 state=$2 log=$3 hide=$4 owner=$5 runtime=$6 score=$7 wanted=$8
shift 8
umask 077
cat 3>&- | {
  (
    exec 3>&-
    for entry; do echo 0 >"$entry" || exit 125; done
    echo "$score" >/proc/self/oom_score_adj
    chown "$owner" /proc/self/fd/1
    set -- "$runtime" --root "$state" --log "file:$log" --log-format json --cgroup-manager disabled \\
      exec --process /proc/self/fd/0 "$id"
    [ -z "$hide" ] || set -- unshare --mount sh -c 'umount "$1" || exit 125; shift; exec "$@"' sh "$hide" "$@"
    exec "$@"
  )
  echo $? >&3
} 2>&1 | { exec 3>&-; head -c "$wanted"; exec cat >/dev/null; }
`;

/** How long output is waited for that is held open by others than the command. */
const RELAY_MS = 1000;

/** The sandbox that a command is to run in. */
export interface ExecTarget {
  id: string;
  files: SandboxFiles;
  cgroup: SandboxCgroup;
  /** Finds the OCI runtime. */
  findRuntime: () => Promise<string>;
  /** Cgroup mount that the OCI runtime must not see. */
  hide: string | undefined;
  /**
   * Environment of its program; undefined when another process has started it. It is nowhere on disk, so what the
   * program shows in `/proc` is taken then. A program can change that, and some do to show what they are busy with;
   * whatever it makes of it, a command has no more rights than the program has.
   */
  environment: Readonly<Record<string, string>> | undefined;
}

/**
 * Runs one more command in a sandbox. When it has ended, or is killed, nothing that it started is alive.
 *
 * @throws SandboxError SANDBOX_SPEC_INVALID, SANDBOX_EXEC_FAILED; the reason of the spec's signal
 */
export async function execIn(target: ExecTarget, spec: ExecSpec): Promise<ExecResult> {
  const { id, files } = target;
  validateExec(id, spec);
  spec.signal?.throwIfAborted();
  const runtime = await target.findRuntime();
  const [program, kept] = await Promise.all([files.program(), files.keptConfig(id)]);
  if (program === undefined || kept === undefined || !(await isAlive(program)))
    throw failed(id, spec, 'it is not running');
  const environment = { ...(target.environment ?? (await environmentOf(program))), ...spec.environment };
  const command = {
    ...kept.process,
    args: [spec.program, ...spec.argv],
    env: Object.entries({ HOME: '/tmp', ...environment }).map(([name, value]) => `${name}=${value}`),
  };
  const name = randomUUID();
  const log = join(files.folder, `exec-${name}.log`);
  const cgroup = await target.cgroup.makeExec(name);
  if (cgroup === undefined)
    throw failed(id, spec, 'it is not running, or has no cgroup by which a command could be ended');
  try {
    const child = spawnRuntime([id, files.runtimeState, log, target.hide ?? '', ownerOf(kept), runtime], kept, cgroup);
    const end = await supervise(child, { input: JSON.stringify(command), cgroup, signal: spec.signal });
    spec.signal?.throwIfAborted();
    return await resultOf(end, log, (why) => failed(id, spec, why));
  } finally {
    await cgroup.kill();
    await cgroup.remove();
    await rm(log, { force: true });
  }
}

function spawnRuntime(args: readonly string[], { process: { oomScoreAdj } }: KeptConfig, cgroup: ExecCgroup) {
  const all = [...args, String(oomScoreAdj), String(MAX_OUTPUT), ...cgroup.entries];
  return spawn('/bin/sh', ['-c', EXEC, 'sh', ...all], {
    cwd: '/',
    detached: true,
    env: { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin' },
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
  });
}

/** How a command ended. No code: all of it was killed before it had one. */
interface End {
  code: number | undefined;
  output: string;
}

/** Until nothing of it is alive. */
async function supervise(
  child: ChildProcess,
  { input, cgroup, signal }: { input: string; cgroup: ExecCgroup; signal: AbortSignal | undefined },
): Promise<End> {
  const [stdin, stdout, stderr, status] = child.stdio as unknown as [Writable, Readable, Readable, Readable];
  const closed = once(child, 'close');
  // Throws what kept it from being spawned.
  if (child.pid === undefined) await closed;
  const group = child.pid ?? 0;
  const kill = () => {
    if (child.exitCode === null && child.signalCode === null) signalGroup(group, 'SIGKILL');
  };
  // Whoever waits for it below gets the error.
  closed.catch(() => undefined);
  signal?.addEventListener('abort', kill, { once: true });
  try {
    // It may end before it has read all of it; how it ended tells.
    stdin.on('error', () => undefined);
    stdin.end(input);
    const output = Promise.all([buffer(stdout), buffer(stderr)]);
    const code = /^(\d+)\n$/.exec(await firstLine(status))?.[1];
    await cgroup.kill();
    if (code === undefined) kill();
    const timer = setTimeout(kill, RELAY_MS);
    await closed.finally(() => clearTimeout(timer));
    const bytes = Buffer.concat(await output).subarray(0, MAX_OUTPUT);
    // As a stream: a character that is cut off at the end is left out.
    const printed = new TextDecoder().decode(bytes, { stream: true });
    return { code: code === undefined ? undefined : Number(code), output: printed };
  } finally {
    signal?.removeEventListener('abort', kill);
  }
}

/** Not to the end: the shell keeps it open until all output is relayed. */
async function firstLine(stream: Readable): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let line = '';
  stream.on('data', (chunk: Buffer) => {
    line += chunk.toString();
    if (line.endsWith('\n')) resolve(line);
  });
  stream.on('close', () => resolve(line));
  return promise;
}

/** The runtime makes its log before anything else; it exits with 1 when it fails, as a command may do, too. */
async function resultOf({ code, output }: End, log: string, fail: (why: string) => SandboxError): Promise<ExecResult> {
  const complaints = await readComplaints(log);
  const complaint = complaints === undefined ? output.trim() : complaints.at(-1);
  if (code === undefined) throw fail('it was killed');
  if (code !== 0 && complaint !== undefined) throw fail(complaint);
  return { code, output };
}

async function readComplaints(log: string): Promise<string[] | undefined> {
  try {
    return parseComplaints(await readFile(log, 'utf8'));
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** The program's user as this machine numbers it. */
function ownerOf({ process: { user }, linux: { uidMappings = [] } }: KeptConfig): string {
  return String(uidMappings.find(({ containerID }) => containerID === user.uid)?.hostID ?? user.uid);
}

async function environmentOf({ pid }: ProcessIdentity): Promise<Record<string, string>> {
  try {
    await using file = await open(`/proc/${pid}/environ`);
    const bytes = Buffer.alloc(MAX_ENVIRONMENT);
    let length = 0;
    for (let read = -1; read !== 0 && length < bytes.length; length += read) {
      read = (await file.read(bytes, length, bytes.length - length, length)).bytesRead;
    }
    return parseEnvironment(bytes.toString('utf8', 0, length));
  } catch (error) {
    // Gone meanwhile: the runtime will say so.
    if (hasErrno(error, 'ENOENT', 'ESRCH')) return {};
    throw error;
  }
}

/** Text of `/proc/<pid>/environ`, see proc_pid_environ(5). What is no assignment is left out. */
function parseEnvironment(environ: string): Record<string, string> {
  const pairs = environ.split('\0').map((entry) => [entry, entry.indexOf('=')] as const);
  return Object.fromEntries(
    pairs
      .filter(([, equals]) => equals > 0)
      .map(([entry, equals]) => [entry.slice(0, equals), entry.slice(equals + 1)]),
  );
}

function failed(id: string, { program }: ExecSpec, why: string): SandboxError {
  return new SandboxError('SANDBOX_EXEC_FAILED', `Cannot run "${program}" in the sandbox "${id}": ${why}`);
}
