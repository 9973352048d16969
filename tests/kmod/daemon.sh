#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: daemon.sh BUILD_DIR PROGRAMS_DIR MODEL
# The real daemon in a guest with four NUMA nodes, with the module and without it (guest_daemon.sh says
# what is checked). The guest gets the programs of BUILD_DIR and the libraries they need from this
# machine. ROW names the kernel (default 6.12).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$1 programs=$2 model=$3
OUT=${OUT:-build}
row=${ROW:-6.12}
extra=$OUT/kmod-rig/daemon-root
rm -rf "$extra"
mkdir -p "$extra/usr/bin" "$extra/lib64" "$extra/bin"
cp "$build/sluiced" "$build/sluice" "$extra/usr/bin/"
cp "$model" "$extra/model.gguf"
cp "$here/guest_daemon.sh" "$extra/bin/guest_daemon.sh"
ldd "$build/sluiced" "$build/sluice" | grep -o '/[^ ]*\.so[^ ]*' | sort -u | while read -r library; do
	mkdir -p "$extra$(dirname "$library")"
	cp -L "$library" "$extra$library"
done
printf 'sh /bin/guest_daemon.sh plain\nsh /bin/guest_daemon.sh module\n' > "$OUT/kmod-rig/daemon.plan"
EXTRA=$extra PLAN=$OUT/kmod-rig/daemon.plan NAME=daemon-$row-4 LIMIT=900 PROGRAM_LIMIT=400 \
	"$here/row.sh" "$row" 4 "$programs"
