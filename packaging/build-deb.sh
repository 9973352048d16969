#!/bin/sh
# SPDX-License-Identifier: MIT
# build-deb.sh OUT programs|module: Debian packages in OUT: sluice, libsluice0 and libsluice-dev, or sluice-dkms.
# Works on a copy of the sources in OUT (dpkg wants debian/ at the top, and gets a tree without anything that was
# built) and needs no root. Prints the packages. Wants the groups deb or kmod-deb of scripts/packages.txt.
set -eu
usage() { echo "usage: packaging/build-deb.sh OUT programs|module" >&2; exit 2; }
[ $# -eq 2 ] || usage
top=$(cd "$(dirname "$0")/.." && pwd)
case $2 in
programs) kind=-B tools="dh scdoc" ;;
module) kind=-A tools="dh dh_dkms" ;;
*) usage ;;
esac
for tool in dpkg-buildpackage $tools; do
	command -v "$tool" >/dev/null || { echo "make deb: $tool is missing (scripts/packages.txt)" >&2; exit 1; }
done
version=$(cat "$top/VERSION")
[ "$(sed -n '1s/.*(\(.*\)).*/\1/p' "$top/packaging/debian/changelog")" = "$version" ] ||
	{ echo "packaging/debian/changelog is not about version $version" >&2; exit 1; }
grep -q "SLUICE_MODULE_VERSION \"$version\"" "$top/kmod/sluice.h" ||
	{ echo "kmod/sluice.h is not version $version" >&2; exit 1; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
work=$out/$2
src=$work/sluice-$version
rm -rf "$work"
mkdir -p "$src"
(cd "$top" && tar -cf - --exclude=./build --exclude='./build-*' --exclude=./.git --exclude=./models \
	--exclude=./tests/data --exclude=__pycache__ --exclude=.pytest_cache .) | tar -C "$src" -xf -
cp -r "$top/packaging/debian" "$src/"
cp "$top/packaging/modules-load.conf" "$src/packaging/sluice.conf"
cp "$top/packaging/sysusers-dkms.conf" "$src/debian/sluice-dkms.sysusers"
cp "$top/packaging/udev.rules" "$src/debian/sluice-dkms.udev"
# the variables of our make are not for dpkg
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL O
(cd "$src" && DEB_BUILD_OPTIONS="noautodbgsym parallel=$(nproc)" dpkg-buildpackage $kind -us -uc) \
	>"$work/build.log" 2>&1 || { tail -n 60 "$work/build.log" >&2; exit 1; }
for package in "$work"/*.deb; do
	mv "$package" "$out/"
	echo "$out/${package##*/}"
done
