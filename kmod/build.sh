#!/bin/sh
# SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT
# build.sh KDIR OUT [make arguments]: sluice.ko for one kernel, in OUT/<release>/ (with SEED=uaf|lock|leak in
# OUT/<release>-<seed>/). The sources are copied there, because the kernel's build writes into its M= folder
# and its `clean` deletes every module below it.
set -eu
[ $# -ge 2 ] || { echo "usage: kmod/build.sh KDIR OUT [make arguments]" >&2; exit 2; }
top=$(cd "$(dirname "$0")/.." && pwd)
kdir=$1 out=$2
shift 2
case ${SEED:-} in
'' | uaf | lock | leak) ;;
*) echo "SEED is uaf, lock or leak, not '$SEED'" >&2; exit 2 ;;
esac
# not include/config/kernel.release: Debian's says 6.1.192 for the kernel that calls itself 6.1.0-56-amd64
uts=$kdir/include/generated/utsrelease.h
if [ ! -r "$uts" ]; then
	echo "$kdir holds no configured kernel: install linux-headers for it, or name another with KDIR=" >&2
	exit 2
fi
release=$(sed -n 's/^#define UTS_RELEASE "\(.*\)"/\1/p' "$uts")
dir=$out/$release${SEED:+-$SEED}
mkdir -p "$dir/uapi"
for file in "$top"/kmod/*.[ch] "$top/kmod/Kbuild" "$top/uapi/sluice_telemetry.h"; do
	to=$dir/${file##*/}
	[ "${file##*/}" != sluice_telemetry.h ] || to=$dir/uapi/sluice_telemetry.h
	cmp -s "$file" "$to" 2>/dev/null || cp "$file" "$to"
done
dir=$(cd "$dir" && pwd)
# the variables of our own make (O=, CFLAGS=) mean other things to the kernel's
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL O CFLAGS LDFLAGS CC
# no BTF for the module: it would need pahole, and nothing reads it
make -s -C "$kdir" M="$dir" CONFIG_DEBUG_INFO_BTF_MODULES= SEED="$(echo "${SEED:-}" | tr a-z A-Z)" "$@" modules
echo "$dir/sluice.ko"
