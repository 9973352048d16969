#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: run.sh
# The packages of `make deb` and their units, started for real: a Debian guest with systemd as its first process under
# QEMU (tests/kmod has the rig; no KVM is needed), without network. Two boots of one disk: "first" installs, starts and
# hurts the service (guest/first.sh), "again" finds what was enabled started at boot, rolls back, upgrades and purges
# (guest/again.sh). Each check is a line of the TAP file, LOGS/service-BOOT.tap. As root (debootstrap); docs/service.md.
# Environment: OUT (build folder), ROOTS (folder that keeps the guest's root), LOGS, LIMIT (seconds for one boot), BOOTS.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
OUT=${OUT:-build}
export LOGS="${LOGS:-$OUT/service-logs}" LIMIT="${LIMIT:-1800}" MEMORY=2048 CPUS=2 NO_PXB=1
[ "$(id -u)" -eq 0 ] || { echo "tests/service/run.sh needs root: debootstrap does" >&2; exit 1; }
# shellcheck disable=SC1091
suite=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME") ||
	{ echo "tests/service/run.sh: the guest is a Debian like the machine that built the packages; this is none" >&2; exit 1; }
work=$OUT/service-rig
rm -rf "$work"
mkdir -p "$work/second/new" "$work/second/old" "$LOGS"

"$here/older.sh" "$OUT/deb" "$OUT/deb-older"
depends=$(for package in "$OUT"/deb/sluice_*.deb "$OUT"/deb/libsluice*.deb; do dpkg-deb -f "$package" Depends; done | paste -sd,)
image=$("$here/root.sh" "$suite" "$depends")

cp "$OUT"/deb/sluice_*.deb "$OUT"/deb/libsluice*.deb "$work/second/new/"
cp "$OUT"/deb-older/sluice_*.deb "$OUT"/deb-older/libsluice*.deb "$work/second/old/"
cp "$here"/guest/*.sh "$top/tests/install/common.sh" "$top/models/demo-moe-q4_k_m.gguf" "$work/second/"
truncate -s 256M "$work/second.ext4"
mkfs.ext4 -q -F -d "$work/second" "$work/second.ext4"
cp --sparse=always "$image/root.ext4" "$work/root.ext4"
export MORE="-drive file=$work/root.ext4,if=virtio,format=raw,cache=unsafe
	-drive file=$work/second.ext4,if=virtio,format=raw,readonly=on"
# what a boot would load and look for, and nothing here needs
masks=
for unit in modprobe@configfs modprobe@dm_mod modprobe@drm modprobe@efi_pstore modprobe@fuse modprobe@loop systemd-udev-trigger \
	systemd-update-utmp systemd-update-utmp-runlevel systemd-logind; do
	masks="$masks systemd.mask=$unit.service"
done
status=0
for boot in ${BOOTS:-first again}; do
	# How long the emulated kernel waits for its processors says something of this machine alone. No zone of movable
	# memory, which the rig makes: Linux 6.1 warns when io_uring pins huge pages that lie there (follow_hugetlb_page).
	export APPEND="root=/dev/vda rw fsck.mode=skip movablecore=0 nowatchdog rcupdate.rcu_cpu_stall_suppress=1 $masks rig.boot=$boot"
	"$top/tests/kmod/boot.sh" "service-$boot" "$image" 2 "$image/initrd" || status=1
	[ -z "${SHOW:-}" ] || cat "$LOGS/service-$boot.tap"
done
rm -rf "$work"
exit $status
