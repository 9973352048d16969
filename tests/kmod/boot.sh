#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: boot.sh NAME KERNEL_DIR TOPOLOGY INITRD
# Boots one guest under QEMU and judges it. TOPOLOGY: 1 | 2 | 4 (NUMA nodes) | memless (a node with
# processors and no memory, and one with memory and no processors). The kernel's serial line goes to
# $LOGS/NAME.log, the programs' TAP to $LOGS/NAME.tap. Passes only if the plan was reported to its
# end, nothing in it failed, and the kernel log holds no line that tells of a bug: a guest that dies
# or hangs has failed. Environment: LOGS, LIMIT (seconds for the whole guest), PROGRAM_LIMIT, CPUS,
# MEMORY (MiB), MORE (arguments for qemu), APPEND (for the kernel), ACCEL, NO_PXB=1.
# shellcheck disable=SC2046 # the functions print lists of arguments
set -eu
here=$(cd "$(dirname "$0")" && pwd)
name=$1 kernel=$2 topology=$3 initrd=$4
LOGS=${LOGS:-build/kmod-logs}
LIMIT=${LIMIT:-600}
CPUS=${CPUS:-4}
MEMORY=${MEMORY:-2048}
mkdir -p "$LOGS"
log=$LOGS/$name.log
tap=$LOGS/$name.tap
rm -f "$log" "$tap"
qemu=$(command -v qemu-system-x86_64) || { echo "boot: no qemu (package qemu-system-x86)" >&2; exit 1; }

memory() { # NODE MIB [CPUS]: a node with memory
	echo "-object memory-backend-ram,id=m$1,size=$2M"
	echo "-numa node,nodeid=$1,memdev=m$1${3:+,cpus=$3}"
}

distance() { # A B VALUE
	echo "-numa dist,src=$1,dst=$2,val=$3"
}

# The machine: sockets are said, else the kernel warns of a topology it finds insane.
half=$((CPUS / 2))
pxb_node=0
case $topology in
1)
	set -- -smp "$CPUS,sockets=1,cores=$CPUS" $(memory 0 "$MEMORY" "0-$((CPUS - 1))") ;;
2)
	pxb_node=1
	set -- -smp "$CPUS,sockets=2,cores=$half" \
		$(memory 0 $((MEMORY / 2)) "0-$((half - 1))") \
		$(memory 1 $((MEMORY / 2)) "$half-$((CPUS - 1))") $(distance 0 1 21) ;;
4)
	pxb_node=3
	[ "$CPUS" -ge 4 ] || CPUS=4
	set -- -smp "4,sockets=4,cores=1"
	for n in 0 1 2 3; do
		set -- "$@" $(memory $n $((MEMORY / 4)) $n)
	done
	set -- "$@" $(distance 0 1 12) $(distance 0 2 20) $(distance 0 3 22) $(distance 1 2 22) \
		$(distance 1 3 20) $(distance 2 3 12) ;;
memless)
	set -- -smp "$CPUS,sockets=2,cores=$half" \
		$(memory 0 $((MEMORY / 2)) "0-$((half - 1))") \
		-numa "node,nodeid=1,cpus=$half-$((CPUS - 1))" \
		$(memory 2 $((MEMORY / 2))) \
		$(distance 0 1 21) $(distance 0 2 17) $(distance 1 2 28) ;;
*)
	echo "boot: unknown topology $topology" >&2
	exit 1 ;;
esac

# PCI: a function behind a port of the root, one that may be removed behind a narrower port, and
# one on a bus of another node.
set -- "$@" -device pcie-root-port,id=rp0,bus=pcie.0,chassis=1,x-speed=16,x-width=16 \
	-device virtio-rng-pci,bus=rp0 \
	-device pcie-root-port,id=rp1,bus=pcie.0,chassis=2,x-speed=2_5,x-width=1 \
	-device virtio-rng-pci,bus=rp1
[ -n "${NO_PXB:-}" ] || set -- "$@" \
	-device pxb-pcie,id=pxb1,bus_nr=32,bus=pcie.0,numa_node=$pxb_node \
	-device pcie-root-port,id=rp2,bus=pxb1,chassis=3,x-speed=8,x-width=8 \
	-device virtio-rng-pci,bus=rp2

boot() {
	# shellcheck disable=SC2086 # MORE is a list
	timeout -k 5 "$LIMIT" "$qemu" -accel "${ACCEL:-tcg,thread=multi}" -cpu max -machine q35 \
		-m "$MEMORY" "$@" ${MORE:-} -nodefaults -no-reboot -display none \
		-serial "file:$log" -serial "file:$tap" -kernel "$kernel/vmlinuz" -initrd "$initrd" \
		-append "console=ttyS0 loglevel=5 panic=-1 rdinit=/init movablecore=$((MEMORY / 4))M \
rig.limit=${PROGRAM_LIMIT:-200} ${APPEND:-}" < /dev/null >&2
}
start=$(date +%s)
rc=0
boot "$@" || rc=$?
# SIGABRT, SIGSEGV: the emulator itself fell over, which Ubuntu's 8.2.2 does now and then. Once
# more, said aloud; a second time is a failure.
case $rc in
134 | 139)
	echo "     $name: qemu crashed ($rc), its guest's last words in $log.crash; booting again"
	mv "$log" "$log.crash" 2>/dev/null || true
	rm -f "$tap"
	rc=0
	boot "$@" || rc=$? ;;
esac
seconds=$(($(date +%s) - start))
exec "$here/judge.sh" "$name" "$log" "$tap" "$rc" "$seconds"
