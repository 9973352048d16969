#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: root.sh SUITE DEPENDS
# Makes the guest's machine where it is not there yet, and prints its folder: root.ext4, a Debian root with systemd
# as its first process, a kernel, what group service-guest of scripts/packages.txt names and what DEPENDS (a field of
# our packages) names, beside vmlinuz and initrd of that kernel. Nothing of ours is in it; it reports and is driven
# through /etc/systemd/system/rig.service, which runs what the second disk has. Made anew when one of the lists or
# this file has changed. As root, with network (apt). Environment: ROOTS (folder that keeps it, build-roots).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
ROOTS=${ROOTS:-build-roots}
suite=$1
mkdir -p "$ROOTS"
roots=$(cd "$ROOTS" && pwd)
work=$roots/service-$$
trap 'rm -rf "$work".*' EXIT
trap 'exit 130' INT TERM
# shellcheck source=tests/install/roots.sh
. "$top/tests/install/roots.sh"

# names alone, of alternatives the first: "libc6 (>= 2.36), libsluice0 (= 0.1.0)" is libc6
depends=$(echo "$2" | tr ',' '\n' | sed 's/[(|].*//; s/[[:space:]]//g' | grep -v sluice | sort -u | tr '\n' ' ')
ours=$(awk '$1 == "service-guest" { print $2 }' "$top/scripts/packages.txt" | tr '\n' ' ')
image=$roots/service-$suite
key=$(echo "$ours $depends" | cat - "$0" | sha256sum | cut -d' ' -f1)
if [ -e "$image/key" ] && [ "$(cat "$image/key")" = "$key" ]; then
	echo "$image"
	exit 0
fi
about "$suite"
dir=$(unpack "$suite")
apt() { # quiet unless it fails
	enter "$dir" apt-get -y -qq --no-install-recommends "$@" >"$work.log" 2>&1 || { tail -n 30 "$work.log" >&2; exit 1; }
}
apt update
apt install initramfs-tools
# The disk alone is looked for: a small initrd, for a processor that is emulated.
echo MODULES=list >"$dir/etc/initramfs-tools/conf.d/guest"
printf '%s\n' virtio_pci virtio_blk ext4 >>"$dir/etc/initramfs-tools/modules"
# shellcheck disable=SC2086
apt install $ours $depends
apt clean
rm -rf "$dir"/var/lib/apt/lists/*
echo guest >"$dir/etc/hostname"
rm -f "$dir/etc/resolv.conf"
enter "$dir" systemctl -q mask getty@.service serial-getty@.service apt-daily.timer apt-daily-upgrade.timer \
	dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-pcrphase.service 2>/dev/null
cat >"$dir/etc/systemd/system/rig.service" <<'UNIT'
[Unit]
Description=The test on the second disk
After=local-fs.target dbus.socket

[Service]
Environment=LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive HOME=/root
ExecStartPre=/bin/mount -o ro /dev/vdb /mnt
ExecStart=/bin/sh /mnt/guest.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
WorkingDirectory=/
OOMScoreAdjust=-1000

[Install]
WantedBy=multi-user.target
UNIT
enter "$dir" systemctl -q enable rig.service
rm -rf "$image" "$image.part"
mkdir "$image.part"
cp "$dir"/boot/vmlinuz-* "$image.part/vmlinuz"
cp "$dir"/boot/initrd.img-* "$image.part/initrd"
truncate -s 2G "$image.part/root.ext4"
mkfs.ext4 -q -F -L root -d "$dir" "$image.part/root.ext4"
echo "$key" >"$image.part/key"
mv "$image.part" "$image"
echo "$image"
