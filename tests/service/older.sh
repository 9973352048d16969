#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: older.sh DEBS OUT
# Packages of an older version, to upgrade from: the tree that `make deb` left in DEBS/programs, with another number and
# a conffile that differs by a line; little is compiled again. Their folder, OUT, is made anew where the packages in
# DEBS are newer.
set -eu
older=0.0.1
debs=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
tree=$(find "$debs/programs" -maxdepth 1 -type d -name 'sluice-*')
[ -n "$tree" ] || { echo "older.sh: there is no tree in $debs/programs (make deb)" >&2; exit 1; }
new=$(find "$debs" -maxdepth 1 -name 'sluice_*.deb')
[ -z "$(find "$out/built" -newer "$new" 2>/dev/null)" ] || exit 0
rm -rf "$out"
mkdir -p "$out"
cp -a "$tree" "$out/sluice-$older"
cd "$out/sluice-$older"
echo "$older" >VERSION
sed -i "1s/(.*)/($older)/" debian/changelog
sed -i 's|--dump-config >$@.part$|--dump-config >$@.part; echo "# of an older version" >>$@.part|' packaging/install.mk
grep -q 'of an older version' packaging/install.mk
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL O
DEB_BUILD_OPTIONS="noautodbgsym parallel=$(nproc)" dpkg-buildpackage -B -us -uc >"$out/build.log" 2>&1 ||
	{ tail -n 40 "$out/build.log" >&2; exit 1; }
rm -rf "$out/sluice-$older"
touch "$out/built"
