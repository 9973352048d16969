#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: row.sh ROW TOPOLOGY PROGRAMS_DIR
# One row: gets the kernel (kernels.sh), builds the module for it, packs the guest and boots it
# (boot.sh). Environment: OUT (build folder, default build), KERNELS, LOGS, PLAN (a file, default
# tests/kmod/plan), TORN (samples of test_torn), SEED (a bug to build in), NAME (of the logs).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
row=$1 topology=$2 programs=$3
OUT=${OUT:-build}
export KERNELS="${KERNELS:-build/kernels}" LOGS="${LOGS:-$OUT/kmod-logs}" SEED="${SEED:-}"
name=${NAME:-$row-$topology${SEED:+-$SEED}}
work=$OUT/kmod-rig/$name
mkdir -p "$work" "$LOGS"

fail() {
	echo "FAIL $name: $*"
	exit 1
}

"$here/kernels.sh" "$row" > "$work/kernel" || fail "no kernel"
kernel=$(cd "$KERNELS/$row" && pwd -P)

# A kernel that comes with a system of its own is built for with that system's compiler.
build="$top/kmod/build.sh"
if [ -d "$kernel/root" ]; then
	build="$here/in-root.sh $kernel/root $top env PATH=/usr/bin:/usr/sbin SEED=$SEED $build"
fi
# shellcheck disable=SC2086 # a command with arguments
$build "$kernel/build" "$(realpath -m "$OUT/kmod")" > "$work/build.log" 2>&1 ||
	{ tail -20 "$work/build.log"; fail "the module does not build"; }
grep -E 'warning:|WARNING:' "$work/build.log" && fail "the module builds with warnings"
ko=$(tail -1 "$work/build.log")
[ -f "$ko" ] || fail "no module built"

sed "s/@TORN@/${TORN:-100000}/" "${PLAN:-$here/plan}" > "$work/plan"
# shellcheck disable=SC2046 # a list of files
"$here/initrd.sh" "$work/initrd.gz" "$work/plan" "$ko" \
	$(find "$programs" -maxdepth 1 -type f -perm -u+x)
status=0
"$here/boot.sh" "$name" "$kernel" "$topology" "$work/initrd.gz" || status=$?
rm -f "$work/initrd.gz"
exit $status
