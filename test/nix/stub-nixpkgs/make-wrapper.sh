# makeWrapper PROGRAM WRAPPER [--add-flags WORDS] [--suffix NAME SEPARATOR VALUE] [--set-default NAME VALUE]
set -e
program=$1 wrapper=$2 flags= before=
shift 2
while [ $# -gt 0 ]; do
  case $1 in
    --add-flags) flags="$flags $2"; shift 2 ;;
    --suffix) before="${before}export $2=\"\$$2$3$4\"
"; shift 4 ;;
    --set-default) before="${before}export $2=\"\${$2-$3}\"
"; shift 3 ;;
    *) echo "makeWrapper: $1 is not known" >&2; exit 1 ;;
  esac
done
mkdir -p "$(dirname "$wrapper")"
printf '#!/bin/sh\n%sexec %s%s "$@"\n' "$before" "$program" "$flags" >"$wrapper"
chmod 0555 "$wrapper"
