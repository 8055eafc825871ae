import { type ChildProcess, spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import type { SandboxCgroup } from '../cgroup/cgroup.ts';
import { pidsLimit } from '../cgroup/cgroup-limits.ts';
import type { SandboxFiles } from '../oci/sandbox-files.ts';

/**
 * Runs one sandbox and outlives whoever started it. Arguments: folder, id, OCI runtime, version 2 mount to hide (or
 * empty), root to make a mount of its own (or empty), owner of the pipes, file that counts out-of-memory kills (or
 * empty), then the parent cgroups.
 *
 * It leaves in the folder: `supervisor` (who it is), `stdout` and `stderr` (complete lines of whatever came through the
 * pipes), `exit` (status and out-of-memory kills; written last). Each state file is written with one write.
 *
 * Standard input is a pipe at its end, never /dev/null: crun before 1.28 makes the program's user the owner of whatever
 * its standard streams are, and /dev/null is this machine's own.
 *
 * It stays out of the sandbox's cgroup: neither the out-of-memory killer nor a kill of everything in there meets it.
 * Should the runtime end before its sandbox, the sandbox is killed: the kill of its first process takes all with it.
 */
const SUPERVISOR = `
folder=$1 id=$2 runtime=$3 hide=$4 root=$5 owner=$6 events=$7
shift 7
trap '' HUP INT TERM
umask 077
for parent; do echo 0 >"$parent/_supervisors/cgroup.procs"; done
read -r boot </proc/sys/kernel/random/boot_id
read -r stat <"/proc/$$/stat"
echo "$boot $stat" >"$folder/supervisor"
mkfifo "$folder/stdout.pipe" "$folder/stderr.pipe" || exit
chown "$owner" "$folder/stdout.pipe" "$folder/stderr.pipe"
cat <"$folder/stdout.pipe" >>"$folder/stdout" &
cat <"$folder/stderr.pipe" >>"$folder/stderr" &
: | (
  trap - HUP INT TERM
  for parent; do echo 0 >"$parent/$id/cgroup.procs" || exit 125; done
  set -- "$runtime" --root "$folder/runtime" --log "file:$folder/runtime.log" --log-format json \\
    --cgroup-manager disabled run --bundle "$folder/bundle" "$id"
  [ -z "$hide$root" ] || set -- unshare --mount sh -c '
    hide=$1 root=$2
    shift 2
    [ -z "$hide" ] || umount "$hide" || exit 125
    [ -z "$root" ] || mount --bind "$root" "$root" || exit 125
    exec "$@"' sh "$hide" "$root" "$@"
  exec "$@"
) >"$folder/stdout.pipe" 2>"$folder/stderr.pipe"
status=$?
for parent; do
  while read -r pid; do kill -KILL "$pid"; done <"$parent/$id/cgroup.procs"
  break
done
wait
oom=0
[ -z "$events" ] || while read -r key value; do [ "$key" = oom_kill ] && oom=$value; done <"$events"
echo "$status $oom" >"$folder/exit"
`;

/**
 * Run by the OCI runtime, as its child, once the program has been started. Arguments: folder, pids limit, file to write
 * it to (or empty). Sets the limit, spares the runtime, which would have the program's score, from the
 * out-of-memory killer, and leaves in `started` who the sandbox's first process is. The runtime sends its state on
 * stdin, as JSON.
 */
const ON_STARTED = `
exec >>"$1/supervisor.log" 2>&1
umask 077
state=
while read -r line || [ -n "$line" ]; do state=$state$line; done
folder=$1 limit=$2 file=$3
echo 0 >"/proc/$PPID/oom_score_adj"
[ -z "$file" ] || echo "$limit" >"$file"
read -r boot </proc/sys/kernel/random/boot_id
state=\${state#*'"pid":'}
pid=$((\${state%%[!0-9 ]*}))
read -r stat <"/proc/$pid/stat"
echo "$boot $stat" >"$folder/started"
`;

/** The hook that tells when the program has been started. */
export function startedHook(files: SandboxFiles, cgroup: SandboxCgroup, pids: number | undefined) {
  const limit = pids === undefined ? '' : pidsLimit(pids);
  const file = pids === undefined ? '' : (cgroup.pidsMax ?? '');
  return { path: '/bin/sh', args: ['sh', '-c', ON_STARTED, 'sh', files.folder, limit, file] };
}

/** What a supervisor has to run. */
export interface Supervised {
  id: string;
  files: SandboxFiles;
  cgroup: SandboxCgroup;
  /** Absolute path of the OCI runtime. */
  runtime: string;
  /** Cgroup mount that the OCI runtime must not see. */
  hide: string | undefined;
  /** Whether the sandbox's root has to be a mount of its own already. */
  mountRoot: boolean;
  /** The program's user, as this machine numbers it: may open standard output and error again, by name. */
  owner: number;
}

/** Starts a supervisor in a session of its own. Only PATH of this process' environment goes to it. */
export async function spawnSupervisor(supervised: Supervised): Promise<ChildProcess> {
  const { id, files, cgroup, runtime, hide = '', mountRoot, owner } = supervised;
  await using log = await open(files.supervisorLog, 'a', 0o600);
  const root = mountRoot ? files.rootfs : '';
  const args = [files.folder, id, runtime, hide, root, String(owner), cgroup.memoryEvents ?? '', ...cgroup.parents];
  const child = spawn('/bin/sh', ['-c', SUPERVISOR, 'sh', ...args], {
    cwd: '/',
    detached: true,
    env: { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin' },
    stdio: ['ignore', log.fd, log.fd],
  });
  child.unref();
  return child;
}
