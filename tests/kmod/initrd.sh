#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: initrd.sh OUT PLAN KO PROGRAM...
# Packs the guest's whole file system: busybox, tests/kmod/init, the module as /sluice.ko, the plan
# (one program with its arguments a line) and the static programs in /bin. EXTRA=DIR adds the
# content of a folder at the root.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$1 plan=$2 ko=$3
shift 3
busybox=$(command -v busybox) || { echo "initrd: no busybox (package busybox-static)" >&2; exit 1; }
mkdir -p "$(dirname "$out")"
dir=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/bin" "$dir/dev"
cp "$busybox" "$dir/bin/busybox"
cp "$here/init" "$dir/init"
cp "$plan" "$dir/plan"
cp "$ko" "$dir/sluice.ko"
for program in "$@"; do
	cp "$program" "$dir/bin/"
done
[ -z "${EXTRA:-}" ] || cp -a "$EXTRA/." "$dir/"
chmod 0755 "$dir" "$dir/init"
(cd "$dir" && find . | cpio -o -H newc --quiet | gzip -1) > "$out"
