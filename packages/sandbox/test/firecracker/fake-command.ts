import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A request that the fake was sent, and the status of its answer. */
export interface RecordedRequest {
  method: string;
  path: string;
  body?: Record<string, unknown>;
  status: number;
}

/** Writes an executable that behaves like a version of `firecracker`. Returns its path. */
export async function fakeFirecracker(folder: string, version = '1.16.1'): Promise<string> {
  const script = fileURLToPath(new URL('fake-firecracker.ts', import.meta.url));
  return executable(
    join(folder, 'firecracker'),
    `NEX_FAKE_VERSION=${version} exec "${process.execPath}" "${script}" "$@"`,
  );
}

/**
 * Writes an executable that does with files and rights what `jailer` does, but for the chroot itself: it makes the
 * folder and enters it, refuses one that is there already, and gives up the rights.
 */
export async function fakeJailer(folder: string): Promise<string> {
  return executable(
    join(folder, 'jailer'),
    `set -e
args=$*
while [ $# -gt 0 ]; do
  case $1 in
    --id) id=$2 ;;
    --exec-file) exec_file=$(readlink -f "$2") ;;
    --uid) uid=$2 ;;
    --gid) gid=$2 ;;
    --chroot-base-dir) base=$2 ;;
    --cgroup-version | --resource-limit | --netns) ;;
    --) shift; break ;;
    *) echo "unknown: $1" >&2; exit 1 ;;
  esac
  shift 2
done
root=$base/\${exec_file##*/}/$id/root
mkdir -p "$root"
mkdir "$root/dev" "$root/run"
chown "$uid:$gid" "$root" "$root/run"
echo "$args" >"$base/jailer-arguments"
echo $$ >"$root/\${exec_file##*/}.pid"
cd "$root"
exec setpriv --reuid "$uid" --regid "$gid" --clear-groups "$exec_file" --id "$id" --start-time-us 1 --start-time-cpu-us 1 "$@"`,
  );
}

/** What the fake in a folder was asked, in order. */
export async function recordedRequests(folder: string): Promise<RecordedRequest[]> {
  const lines = (await readFile(join(folder, 'requests.jsonl'), 'utf8')).trim().split('\n');
  return lines.map((line) => JSON.parse(line) as RecordedRequest);
}

async function executable(path: string, script: string): Promise<string> {
  await writeFile(path, `#!/bin/sh\n${script}\n`);
  await chmod(path, 0o755);
  return path;
}
