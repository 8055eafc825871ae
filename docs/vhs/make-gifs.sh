#!/usr/bin/env bash
# Makes docs/assets/*.gif of the tapes beside this script: all of them, or those named (make-gifs.sh dev devrun).
# Each is recorded in a folder of its own, so no data of yours is in the picture, and none is touched.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PATH="$root/node_modules/.bin:$PATH"

missing=()
for tool in vhs ttyd ffmpeg nex nats-server crun busybox; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "Cannot make gifs: not on PATH: ${missing[*]}" >&2
  echo "nix develop has all of them. Elsewhere: vhs by go install github.com/charmbracelet/vhs@latest, ttyd and ffmpeg from" >&2
  echo "the distribution (vhs draws with a Chromium too), nex and what it runs on by npm start" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "Cannot make gifs: workloads are run, which needs root" >&2
  exit 1
fi
# Chromium refuses to be root in a sandbox of its own.
export VHS_NO_SANDBOX=true

tapes=("$@")
if [ ${#tapes[@]} -eq 0 ]; then
  for tape in "$root"/docs/vhs/*.tape; do
    name=$(basename "$tape" .tape)
    [ "$name" = settings ] || tapes+=("$name")
  done
fi

work=
# Also when a recording was broken off.
clean_up() {
  [ -n "$work" ] || return 0
  (cd "$work" && nex dev down >/dev/null 2>&1) || true
  rm -rf "$work"
  work=
}
trap clean_up EXIT

mkdir -p "$root/docs/assets"
for name in "${tapes[@]}"; do
  work=$(mktemp -d)
  mkdir -p "$work/docs/assets"
  cp -r "$root/docs/vhs" "$work/docs/vhs"
  (cd "$work" && vhs "docs/vhs/$name.tape")
  mv "$work/docs/assets/$name.gif" "$root/docs/assets/$name.gif"
  clean_up
done
