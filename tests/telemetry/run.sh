#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: run.sh [TOPOLOGY...]     (default: 4)
# Boots guests with the kernel module (tests/kmod has the rig) and reads the machine through it with
# the real `sluice telemetry`, as root and as another user, and with numactl -H and lspci -vv; then
# the real daemon decodes beside the module, its experts spread over the nodes (tests/numa/guest.sh);
# then the module is unloaded.
# Environment: OUT (build folder, default build), ROW (kernel row of tests/kmod/kernels.sh).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
OUT=${OUT:-build}
ROW=${ROW:-6.12}
export KERNELS="${KERNELS:-build/kernels}" LOGS="${LOGS:-$OUT/kmod-logs}" LIMIT="${LIMIT:-400}" PROGRAM_LIMIT=240
# links worth looking at: two network functions, each behind a port of its own
export MORE="${MORE:--device pcie-root-port,id=rp8,bus=pcie.0,chassis=8,x-speed=8,x-width=8 -device virtio-net-pci,bus=rp8,romfile= -device pcie-root-port,id=rp9,bus=pxb1,chassis=9,x-speed=16,x-width=4 -device virtio-net-pci,bus=rp9,romfile=}"
[ $# -gt 0 ] || set -- 4
work=$OUT/telemetry-rig
rm -rf "$work"
mkdir -p "$work/root/lib64" "$work/root/model" "$work/root/bin" "$LOGS"

"$top/tests/kmod/kernels.sh" "$ROW" > "$work/kernel.log" || { cat "$work/kernel.log"; exit 1; }
kernel=$(cd "$KERNELS/$ROW" && pwd -P)
"$top/kmod/build.sh" "$kernel/build" "$(realpath -m "$OUT/kmod")" > "$work/build.log" 2>&1 ||
	{ tail -20 "$work/build.log"; echo "the module does not build"; exit 1; }
ko=$(tail -1 "$work/build.log")
cp "$OUT/sluiced" "$OUT/sluice" "$top/tests/numa/guest.sh" "$work/root/bin/"
cp "$here/guest.sh" "$work/root/bin/telemetry.sh"
numactl=$(command -v numactl) || { echo "no numactl (package numactl)"; exit 1; }
lspci=$(command -v lspci) || { echo "no lspci (package pciutils)"; exit 1; }
cp "$here/tools.sh" "$numactl" "$lspci" "$work/root/bin/"
cp "$top/models/demo-moe-q4_k_m.gguf" "$work/root/model/demo.gguf"
"$top/tests/kmod/libs.sh" "$work/root" "$OUT/sluiced" "$OUT/sluice" "$numactl" "$lspci"

status=0
for topology in "$@"; do
	{
		echo "telemetry.sh without"
		echo "telemetry.sh with"
		echo "tools.sh"
		echo "guest.sh $topology"
		echo "telemetry.sh gone"
	} > "$work/plan"
	EXTRA="$work/root" "$top/tests/kmod/initrd.sh" "$work/initrd.gz" "$work/plan" "$ko" "$here/guest.sh"
	"$top/tests/kmod/boot.sh" "telemetry-$ROW-$topology" "$kernel" "$topology" "$work/initrd.gz" || status=1
done
rm -f "$work/initrd.gz"
exit $status
