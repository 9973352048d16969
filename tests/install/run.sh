#!/bin/sh
# SPDX-License-Identifier: MIT
# Packages and installation in clean systems. As root; see docs/packaging.md.
#
#	run.sh deb            the packages in $OUT/deb: lintian, a second build with the same bytes, and in a
#	                      clean root of this very release: installed, run, removed, nothing left
#	run.sh roots SUITE..  in a clean root of each: this tree without ../shared built, `make run`,
#	                      `make install`, the example, `make uninstall`, `make deb`, and those packages in a
#	                      second clean root. FULL=1: `make test` as well
#
# A suite whose archive cannot be reached, or whose signatures cannot be checked here (Ubuntu's from Debian: name
# a keyring in UBUNTU_KEYRING), is skipped, and said. ROOTS (build-roots) keeps each root as SUITE.tar; one that was
# put there by hand is taken as it is.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
OUT=${OUT:-build}
ROOTS=${ROOTS:-build-roots}
case $ROOTS in /*) ;; *) ROOTS=$top/$ROOTS ;; esac
mkdir -p "$ROOTS"
roots=$(cd "$ROOTS" && pwd)
work=$roots/work-$$
trap 'rm -rf "$work".*' EXIT
trap 'exit 130' INT TERM
passed=0 failed=0 skipped=0
[ "$(id -u)" -eq 0 ] || { echo "tests/install/run.sh needs root: debootstrap and chroot do" >&2; exit 1; }
. "$here/roots.sh"

# The tree as somebody else has it: what git knows, or everything but what was built.
copy_tree() { # destination
	mkdir -p "$1"
	if git -C "$top" rev-parse -q --verify HEAD >/dev/null 2>&1; then
		(cd "$top" && git ls-files -z | tar --null --verbatim-files-from -T - --ignore-failed-read -cf -)
	else
		(cd "$top" && tar -cf - --exclude=./build --exclude='./build-*' .)
	fi | tar -C "$1" -xf -
}

verdict() { # name status
	if [ "$2" -eq 0 ]; then
		passed=$((passed + 1))
		echo "ok      $1"
	else
		failed=$((failed + 1))
		echo "FAILED  $1"
	fi
}

# packages from $2 in a clean root of suite $1
try_packages() {
	dir=$(unpack "$1") || return 1
	mkdir "$dir/packages"
	cp "$2"/sluice_*.deb "$2"/libsluice*.deb "$top/models/demo-moe-q4_k_m.gguf" "$here/in-packages.sh" \
		"$here/common.sh" "$dir/packages/"
	rc=0
	enter "$dir" sh /packages/in-packages.sh || rc=1
	rm -rf "$dir"
	return $rc
}

test_deb() {
	debs=$top/$OUT/deb
	rc=0
	lintian --fail-on error,warning --allow-root --suppress-tags bad-distribution-in-changes-file \
		"$debs"/sluice_*.deb "$debs"/libsluice*.deb || rc=1
	verdict "lintian" $rc
	rc=0
	again=$(mktemp -d "$work.another-place.XXXXXX")
	(umask 027 && "$top/packaging/build-deb.sh" "$again" programs >/dev/null) || rc=1
	for package in "$debs"/sluice_*.deb "$debs"/libsluice*.deb; do
		cmp "$package" "$again/${package##*/}" || rc=1
	done
	rm -rf "$again"
	verdict "a second build elsewhere has the same bytes" $rc
	# shellcheck disable=SC1091
	suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
	about "$suite"
	rc=0
	try_packages "$suite" "$debs" || rc=1
	verdict "packages in a clean $suite" $rc
}

test_suite() { # suite
	about "$1"
	why=
	if ! [ -e "$roots/$1.tar" ]; then
		reachable "$1" || why="its archive $mirror cannot be reached"
		[ -e "$keyring" ] || why="there is no keyring $keyring to check its archive with"
	fi
	if [ -n "$why" ]; then
		skipped=$((skipped + 1))
		echo "skipped $1: $why"
		return
	fi
	dir=$(unpack "$1") || { verdict "$1" 1; return; }
	copy_tree "$dir/src/sluice"
	rc=0
	enter "$dir" sh /src/sluice/tests/install/in-tree.sh || rc=1
	verdict "$1: the tree" $rc
	if [ $rc -eq 0 ]; then
		try_packages "$1" "$dir/src/sluice/build/deb" || rc=1
		verdict "$1: its packages in a clean root" $rc
	fi
	rm -rf "$dir"
}

what=${1:-}
[ $# -eq 0 ] || shift
case $what in
deb) test_deb ;;
roots)
	for suite in "$@"; do
		test_suite "$suite"
	done
	;;
*)
	echo "usage: tests/install/run.sh deb | roots SUITE..." >&2
	exit 2
	;;
esac
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
