#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: run.sh
# Boots a guest with control groups of version 2 alone (tests/kmod has the rig) and runs the real
# daemon in groups with limits of memory, CPU and huge pages: hosts of version 1, and containers that
# may make no groups, cannot. The unit tests of the limits and of the arena run there too.
# Environment: OUT (build folder, default build), ROW (kernel row of tests/kmod/kernels.sh).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
OUT=${OUT:-build}
ROW=${ROW:-6.1-cloud}
export KERNELS="${KERNELS:-build/kernels}" LOGS="${LOGS:-$OUT/kmod-logs}" LIMIT="${LIMIT:-240}" PROGRAM_LIMIT=120
export MEMORY=1024 CPUS=4 APPEND="cgroup_no_v1=all"
work=$OUT/cgroup-rig
rm -rf "$work"
mkdir -p "$work/root/lib64" "$work/root/model" "$work/root/bin" "$LOGS"

"$top/tests/kmod/kernels.sh" "$ROW" > "$work/kernel.log" || { cat "$work/kernel.log"; exit 1; }
kernel=$(cd "$KERNELS/$ROW" && pwd -P)
cp "$OUT/sluiced" "$OUT/sluice" "$OUT/tests/store/test_arena" "$work/root/bin/"
cp "$top/models/demo-moe-q4_k_m.gguf" "$work/root/model/demo.gguf"
"$top/tests/kmod/libs.sh" "$work/root" "$OUT/sluiced" "$OUT/sluice" "$OUT/tests/store/test_arena"
: > "$work/no.ko" # the module is not needed
cat > "$work/plan" << PLAN
cgroup.sh memory
cgroup.sh cpu
cgroup.sh user
cgroup.sh huge
PLAN
cp "$here/guest.sh" "$work/root/bin/cgroup.sh"
EXTRA="$work/root" "$top/tests/kmod/initrd.sh" "$work/initrd.gz" "$work/plan" "$work/no.ko" "$here/guest.sh"
status=0
"$top/tests/kmod/boot.sh" "cgroup-$ROW" "$kernel" 1 "$work/initrd.gz" || status=1
rm -f "$work/initrd.gz"
exit $status
