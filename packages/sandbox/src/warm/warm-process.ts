import { type ChildProcess, spawn } from 'node:child_process';
import { constants, openSync } from 'node:fs';
import { chown, open } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import type { SandboxCgroup } from '../cgroup/cgroup.ts';
import type { SandboxFiles } from '../oci/sandbox-files.ts';

/**
 * Becomes the OCI runtime of a warm sandbox, in its cgroup. Arguments: folder, id, OCI runtime, version 2 mount to hide
 * (or empty), root to make a mount of its own (or empty), then the parent cgroups.
 *
 * The standard streams are pipes with names, in the sandbox's folder: Node would make sockets, which a program cannot
 * open again as /dev/stdin or /dev/stderr. A line on stdout tells that they are there, another one that they are open
 * here: what was written to one before that, and closed, would be lost. Opening one waits for its other end.
 */
const LAUNCHER = `
folder=$1 id=$2 runtime=$3 hide=$4 root=$5
shift 5
umask 077
for parent; do echo 0 >"$parent/$id/cgroup.procs" || exit 125; done
mkfifo "$folder/stdin.pipe" "$folder/stdout.pipe" "$folder/stderr.pipe" || exit 125
set -- "$runtime" --root "$folder/runtime" --log "file:$folder/runtime.log" --log-format json \\
  --cgroup-manager disabled run --pid-file "$folder/pid" --bundle "$folder/bundle" "$id"
[ -z "$hide$root" ] || set -- unshare --mount sh -c '
  hide=$1 root=$2
  shift 2
  [ -z "$hide" ] || umount "$hide" || exit 125
  [ -z "$root" ] || mount --bind "$root" "$root" || exit 125
  exec "$@"' sh "$hide" "$root" "$@"
echo made
exec 3>&1 <"$folder/stdin.pipe" >"$folder/stdout.pipe" 2>"$folder/stderr.pipe"
echo open >&3
exec 3>&-
exec "$@"
`;

/** What a launcher has to run. */
export interface WarmLaunch {
  id: string;
  files: SandboxFiles;
  cgroup: SandboxCgroup;
  /** Absolute path of the OCI runtime. */
  runtime: string;
  /** Cgroup mount that the OCI runtime must not see. */
  hide: string | undefined;
  /** Whether the sandbox's root has to be a mount of its own already. */
  mountRoot: boolean;
  /** The program's user, as this machine numbers it: may open its streams again, by name. */
  owner: number;
}

/** How the OCI runtime ended, which is how the program ended where the runtime was not killed itself. */
export interface ProcessEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** The OCI runtime of one sandbox as a child of this process, and the other ends of the program's streams. */
export interface WarmProcess {
  readonly pid: number;
  readonly stdin: Socket;
  readonly stdout: Socket;
  readonly stderr: Socket;
  /** Never rejects. */
  readonly ended: Promise<ProcessEnd>;
}

/**
 * Starts it. The runtime is in a session of its own, where no key pressed at a terminal reaches it, with PATH as its
 * whole environment. Undefined when it ends before it has streams; its complaints are in the supervisor's log.
 */
export async function launchWarm(launch: WarmLaunch): Promise<WarmProcess | undefined> {
  const { id, files, cgroup, runtime, hide = '', mountRoot, owner } = launch;
  await using log = await open(files.supervisorLog, 'a', 0o600);
  const args = [files.folder, id, runtime, hide, mountRoot ? files.rootfs : '', ...cgroup.parents];
  const child = spawn('/bin/sh', ['-c', LAUNCHER, 'sh', ...args], {
    cwd: '/',
    detached: true,
    env: { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin' },
    stdio: ['ignore', 'pipe', log.fd],
  });
  const ended = endOf(child);
  const { stdout, pid } = child;
  if (stdout === null || pid === undefined) return undefined;
  // Ends with the launcher.
  const lines = stdout[Symbol.asyncIterator]();
  try {
    if ((await lines.next()).done === true) return undefined;
    const streams = await connect(files.folder, owner);
    if ((await lines.next()).done !== true) return { ...streams, pid, ended };
    for (const stream of Object.values(streams)) stream.destroy();
    return undefined;
  } finally {
    stdout.destroy();
  }
}

async function connect(folder: string, owner: number): Promise<Omit<WarmProcess, 'ended' | 'pid'>> {
  const { O_RDONLY, O_RDWR, O_NONBLOCK } = constants;
  const pipe = (name: string) => join(folder, `${name}.pipe`);
  for (const name of ['stdin', 'stdout', 'stderr']) await chown(pipe(name), owner, owner);
  using opened = new DisposableStack();
  // None of these waits for the other end. To open a pipe for writing alone would fail while nobody reads it; that of
  // stdin is never read here.
  const socket = (name: string, flags: number, options: { readable: boolean; writable: boolean }): Socket => {
    const end = new Socket({ fd: openSync(pipe(name), flags | O_NONBLOCK), ...options });
    opened.defer(() => end.destroy());
    return end;
  };
  const stdout = socket('stdout', O_RDONLY, { readable: true, writable: false });
  const stderr = socket('stderr', O_RDONLY, { readable: true, writable: false });
  const stdin = socket('stdin', O_RDWR, { readable: false, writable: true });
  opened.move();
  return { stdin, stdout, stderr };
}

function endOf(child: ChildProcess): Promise<ProcessEnd> {
  const end = Promise.withResolvers<ProcessEnd>();
  child.once('exit', (code, signal) => end.resolve({ code, signal }));
  child.once('error', () => end.resolve({ code: null, signal: null }));
  return end.promise;
}
