# Puts the folder of a guest image together, all but its guest.json. Sourced by a build that has set:
#
#   out           the folder, which is made
#   kernelFile    ELF file, or what the machine's loader takes
#   initrdFile
#   closure       folder with the file `store-paths`: the closure of the system, a path a line
#   leftOut       array of store paths of it that are not to be in the root image
#   compression   for mkfs.erofs, or empty
#
# Leaves the file `root-paths` in the working folder: the store paths that are in the root image, sorted.
# The same store paths give the same bytes, whatever the file systems are that they come from.

mkdir "$out"

# Debugging symbols are most of it, and a host would read them at every boot.
if [ "$(head --bytes=4 "$kernelFile" | tail --bytes=3)" = ELF ]; then
  strip --strip-debug -o "$out/vmlinux" "$kernelFile"
else
  cp "$kernelFile" "$out/vmlinux"
fi
cp "$initrdFile" "$out/initrd"

printf '%s\n' "${leftOut[@]}" >left-out
grep --invert-match --line-regexp --fixed-strings --file=left-out "$closure/store-paths" | LC_ALL=C sort --unique >root-paths

# Copied, so that files which a store has made hard links of each other are files of their own, as everywhere else.
mkdir root
xargs --delimiter='\n' --arg-file=root-paths cp --recursive --no-dereference --preserve=mode --target-directory=root
chmod 0755 root

# SOURCE_DATE_EPOCH, where it is set, beats -T.
env --unset=SOURCE_DATE_EPOCH mkfs.erofs --quiet ${compression:+"-z$compression"} \
  -x-1 -T0 -U6e65782d-6e69-7800-0000-000000000002 --all-root "$out/root.erofs" root

chmod 0444 "$out"/*
