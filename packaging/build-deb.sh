#!/bin/sh
# SPDX-License-Identifier: MIT
# build-deb.sh OUT: the Debian package sluice-dkms, in OUT. Works on a copy of the sources there (dpkg wants
# debian/ at the top), needs no root. Wants dpkg-dev, debhelper and dh-dkms.
set -eu
[ $# -eq 1 ] || { echo "usage: packaging/build-deb.sh OUT" >&2; exit 2; }
top=$(cd "$(dirname "$0")/.." && pwd)
for tool in dpkg-buildpackage dh dh_dkms; do
	command -v $tool >/dev/null || { echo "deb-kmod: $tool is missing (dpkg-dev debhelper dh-dkms)" >&2; exit 1; }
done
version=$(cat "$top/VERSION")
[ "$(sed -n '1s/.*(\(.*\)).*/\1/p' "$top/packaging/debian/changelog")" = "$version" ] ||
	{ echo "packaging/debian/changelog is not about version $version" >&2; exit 1; }
grep -q "SLUICE_MODULE_VERSION \"$version\"" "$top/kmod/sluice.h" ||
	{ echo "kmod/sluice.h is not version $version" >&2; exit 1; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
src=$out/sluice-$version
rm -rf "$src"
mkdir -p "$src/packaging"
cp -r "$top/kmod" "$src/"
mkdir "$src/uapi"
cp "$top/uapi/sluice_telemetry.h" "$src/uapi/"
cp -r "$top/packaging/debian" "$src/"
cp "$top/packaging/dkms.conf" "$src/packaging/"
cp "$top/packaging/modules-load.conf" "$src/packaging/sluice.conf"
cp "$top/packaging/sysusers.conf" "$src/debian/sluice-dkms.sysusers"
cp "$top/packaging/udev.rules" "$src/debian/sluice-dkms.udev"
# the variables of our make are not for dpkg
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL O
(cd "$src" && dpkg-buildpackage -b -us -uc) >"$out/build.log" 2>&1 || { cat "$out/build.log"; exit 1; }
echo "$out/sluice-dkms_${version}_all.deb"
