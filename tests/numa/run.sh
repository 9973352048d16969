#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: run.sh [TOPOLOGY...]     (default: 2 4)
# Boots guests with several NUMA nodes (tests/kmod has the rig) and runs the real daemon in them on
# the bundled model: every node must hold its share of the experts and its own threads alone must
# multiply them. By page location, not by speed: an emulated machine has none.
# Environment: OUT (build folder, default build), ROW (kernel row of tests/kmod/kernels.sh).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
OUT=${OUT:-build}
ROW=${ROW:-6.12}
export KERNELS="${KERNELS:-build/kernels}" LOGS="${LOGS:-$OUT/kmod-logs}" LIMIT="${LIMIT:-240}" PROGRAM_LIMIT=200
[ $# -gt 0 ] || set -- 2 4
work=$OUT/numa-rig
rm -rf "$work"
mkdir -p "$work/root/lib64" "$work/root/model" "$LOGS"

"$top/tests/kmod/kernels.sh" "$ROW" > "$work/kernel.log" || { cat "$work/kernel.log"; exit 1; }
kernel=$(cd "$KERNELS/$ROW" && pwd -P)
mkdir -p "$work/root/bin"
cp "$OUT/sluiced" "$OUT/sluice" "$here/guest.sh" "$work/root/bin/"
cp "$top/models/demo-moe-q4_k_m.gguf" "$work/root/model/demo.gguf"
"$top/tests/kmod/libs.sh" "$work/root" "$OUT/sluiced" "$OUT/sluice"
: > "$work/no.ko" # the module is not needed

status=0
for topology in "$@"; do
	echo "guest.sh $topology" > "$work/plan"
	EXTRA="$work/root" "$top/tests/kmod/initrd.sh" "$work/initrd.gz" "$work/plan" "$work/no.ko" "$here/guest.sh"
	"$top/tests/kmod/boot.sh" "numa-$ROW-$topology" "$kernel" "$topology" "$work/initrd.gz" || status=1
done
exit $status
