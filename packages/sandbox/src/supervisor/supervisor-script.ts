/**
 * Runs one sandbox and outlives whoever started it. Arguments: cgroup mount to take out of the OCI runtime's sight (or
 * empty), name of the file to enter a cgroup by, then the parent cgroups. It runs in a mount namespace of its own where there is such a mount, or a root to
 * make one of.
 *
 * It says `ready` when it has set itself up and waits for a line each of: folder, id, OCI runtime, root to make a mount
 * of its own (or empty), file that counts out-of-memory kills (or empty), bytes of logs to keep of each stream, bytes a
 * second of each stream (0: no limit). If standard input ends before, its node is gone, and so it goes, last of all its
 * processes.
 *
 * It leaves in the folder: `supervisor` (who it is), `pid` (of the sandbox's first process; written by the runtime when
 * that is set up), `stdout.<n>` and `stderr.<n>` (what came through the pipes from byte n on), `exit` (status and
 * out-of-memory kills; written last). Each state file is written with one write.
 *
 * A here-document gives a pipe without any other process, and without a name that could be left behind; where the shell
 * makes it a file, `mkfifo` does. Standard input of the sandbox is a pipe at its end, never /dev/null: crun before 1.28
 * makes the program's user the owner of whatever its standard streams are, and /dev/null is this machine's own.
 *
 * It stays out of the sandbox's cgroup: neither the out-of-memory killer nor a kill of everything in there meets it.
 * Should the runtime end before its sandbox, the sandbox is killed: the kill of its first process takes all with it.
 *
 * `keep` copies one pipe in chunks, each by one `dd`: the position of the file that they share tells how far it got.
 * After a chunk it looks whether to begin the next file and to drop the oldest; the reader named in `<stream>.reader`
 * is given five seconds for that, if it is alive and gets on. A stream that is busy rests between chunks, so that many
 * small writes become few; one that is faster than its limit rests as long as that takes, and the program waits.
 */
export const SUPERVISOR = `
trap '' HUP INT TERM
umask 077
hide=$1 entry=$2
shift 2
for parent; do echo 0 >"$parent/_supervisors/$entry"; done
[ -z "$hide" ] || umount "$hide" || exit
exec 3<<E 4<<E 5<<E
E
E
E
if ! [ -p /proc/self/fd/3 ]; then
  pipes=$(mktemp -d) && mkfifo "$pipes/3" "$pipes/4" "$pipes/5" || exit
  exec 8<>"$pipes/3" 3<"$pipes/3" 8>&-
  exec 8<>"$pipes/4" 4<"$pipes/4" 8>&-
  exec 8<>"$pipes/5" 5<"$pipes/5" 8>&-
  rm -r "$pipes"
fi
exec 6>/proc/self/fd/3 7>/proc/self/fd/4 8>/proc/self/fd/5

leave() {
  exec 6>&- 7>&- 8>&-
  wait
  exit 0
}
clock() {
  read -r now _ </proc/uptime
  now=$((\${now%.*} * 100 + 1\${now#*.} - 100))
}
rest() {
  sleep "$(($1 / 100)).$(($1 / 10 % 10))$(($1 % 10))" &
  wait $!
  kill $! 2>/dev/null
}
await_reader() {
  tries=0
  while [ "$tries" -lt 50 ] && [ -e "$folder/$name.reader" ]; do
    read -r reader at <"$folder/$name.reader" || break
    [ "$at" -lt "$1" ] && [ "$at" != "$stuck" ] && kill -0 "$reader" || return 0
    rest 10
    tries=$((tries + 1))
  done 2>/dev/null
  stuck=$at
}
keep() {
  name=$1 start=0 size=0 due=0 stuck=
  trap : USR1
  for word in folder bytes rate; do IFS= read -r "$word" || exit 0; done
  exec 2>>"$folder/supervisor.log"
  chunk=$((bytes / 8))
  [ "$rate" -eq 0 ] || [ "$rate" -gt "$chunk" ] || chunk=$rate
  count=64
  block=$((chunk / count))
  [ "$block" -gt 0 ] || block=1
  exec 8>>"$folder/$name.0"
  set -- 0
  while :; do
    clock
    began=$now before=$size
    dd bs="$block" count="$count" status=none >&8
    status=$?
    read -r _ size </proc/self/fdinfo/8
    if [ "$size" -eq "$before" ]; then
      [ "$status" -ne 0 ] || return
      rest 10
    fi
    if [ "$size" -ge $((bytes / 8)) ]; then
      start=$((start + size)) before=$((before - size)) size=0
      exec 8>>"$folder/$name.$start"
      set -- "$@" "$start"
      if [ $# -gt 4 ]; then
        await_reader "$2"
        rm -f "$folder/$name.$1"
        shift
      fi
    fi
    kill -0 "$child" 2>/dev/null || continue
    clock
    pause=0
    [ $((now - began)) -ge 10 ] || pause=2
    if [ "$rate" -gt 0 ]; then
      [ "$due" -gt "$began" ] || due=$began
      due=$((due + (size - before) * 100 / rate))
      [ $((due - now - 100)) -le "$pause" ] || pause=$((due - now - 100))
    fi
    [ "$pause" -eq 0 ] || rest "$pause"
  done
}

(
  trap - HUP INT TERM
  for word in folder id runtime root; do IFS= read -r "$word" || exit 0; done
  [ -z "$root" ] || mount --bind "$root" "$root" || exit 125
  for parent; do echo 0 >"$parent/$id/$entry" || exit 125; done
  exec "$runtime" --root "$folder/runtime" --log "file:$folder/runtime.log" --log-format json \\
    --cgroup-manager disabled run --pid-file "$folder/pid" --bundle "$folder/bundle" "$id"
) <&5 >&6 2>&7 3<&- 4<&- 5<&- 6>&- 7>&- 8>&- &
child=$!
(keep stdout) <&3 >/dev/null 3<&- 4<&- 5<&- 6>&- 7>&- 8>&- &
out=$!
(keep stderr) <&4 >/dev/null 3<&- 4<&- 5<&- 6>&- 7>&- 8>&- &
err=$!
exec 3<&- 4<&- 5<&-
read -r boot </proc/sys/kernel/random/boot_id
read -r stat <"/proc/$$/stat"
echo ready
for word in folder id runtime root events bytes rate; do IFS= read -r "$word" || leave; done
exec </dev/null >>"$folder/supervisor.log" 2>&1
echo "$boot $stat" >"$folder/supervisor"
for word in "$folder" "$bytes" "$rate"; do
  printf '%s\\n' "$word" >&6
  printf '%s\\n' "$word" >&7
done
for word in "$folder" "$id" "$runtime" "$root"; do printf '%s\\n' "$word" >&8; done
exec 6>&- 7>&- 8>&-
wait "$child"
status=$?
for parent; do
  while read -r pid; do kill -KILL "$pid"; done <"$parent/$id/cgroup.procs"
  break
done
kill -USR1 "$out" "$err" 2>/dev/null
wait
oom=0
[ -z "$events" ] || while read -r key value; do [ "$key" = oom_kill ] && oom=$value; done <"$events"
echo "$status $oom" >"$folder/exit"
`;
