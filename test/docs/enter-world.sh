# Process 1 of a world (world.ts), in namespaces of its own. Arguments: what becomes /home, the checkout, where it is to be seen.
set -eu
homes=$1 checkout=$2 copy=$3
ip link set lo up
echo lab >/proc/sys/kernel/hostname
# Nothing of what runs on the machine is to be seen by what runs here, nor the other way round.
mount -t tmpfs -o mode=755 tmpfs /run
# The machine's own homes stay: the checkout and its tools may lie in one of them.
for home in /home/*; do
  [ -d "$home" ] || continue
  mkdir -p "$homes/${home##*/}"
  mount --rbind "$home" "$homes/${home##*/}"
done
mount --bind "$checkout/node_modules" "$copy/node_modules"
mount -o remount,bind,ro "$copy/node_modules"
# Node compiles for everybody. /tmp itself has what is named after process ids, which are others here.
mkdir -p /tmp/node-compile-cache "$homes/.node-compile-cache"
mount --bind /tmp/node-compile-cache "$homes/.node-compile-cache"
mount --rbind "$homes" /home
mount -t tmpfs -o mode=1777 tmpfs /tmp
echo ready
# Bash takes in the ends of orphans meanwhile, as a process 1 has to. It ends with who started it.
read -r _ || true
