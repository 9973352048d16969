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

# archive, keyring, and the script of debootstrap that knows suites newer than itself
about() { # suite
	case $1 in
	noble | jammy)
		mirror=${UBUNTU_MIRROR:-http://archive.ubuntu.com/ubuntu} like=gutsy components=main,universe
		keyring=${UBUNTU_KEYRING:-/usr/share/keyrings/ubuntu-archive-keyring.gpg}
		;;
	*)
		mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian} like=sid components=main
		keyring=/usr/share/keyrings/debian-archive-keyring.gpg
		;;
	esac
}

reachable() { # suite
	/usr/lib/apt/apt-helper download-file "$mirror/dists/$1/Release" "$roots/$1.release" >/dev/null 2>&1
	rc=$?
	rm -f "$roots/$1.release"
	return $rc
}

# A new root of the suite in a directory of its own; its path.
unpack() { # suite
	[ -e "$roots/$1.tar" ] || {
		debootstrap --variant=minbase --components="$components" --keyring="$keyring" "$1" "$roots/$1.new" "$mirror" \
			/usr/share/debootstrap/scripts/$like >"$roots/$1.log" 2>&1 ||
			{ tail -n 20 "$roots/$1.log" >&2; rm -rf "$roots/$1.new"; return 1; }
		tar -C "$roots/$1.new" --one-file-system -cf "$roots/$1.tar.part" .
		mv "$roots/$1.tar.part" "$roots/$1.tar"
		rm -rf "$roots/$1.new" "$roots/$1.log"
	}
	dir=$(mktemp -d "$work.$1.XXXXXX")
	tar -C "$dir" -xf "$roots/$1.tar"
	cp -L /etc/resolv.conf "$dir/etc/resolv.conf"
	echo "$dir"
}

# Runs a command in a root, with /proc, processes and mounts of its own: they end with it. The root is a mount, as roots
# are, so that what runs there can have mounts of its own again (tests do).
enter() { # root command...
	root=$1
	shift
	# shellcheck disable=SC2016
	unshare --mount --pid --fork --propagation private sh -c 'mount --bind "$0" "$0" && mount -t proc proc "$0/proc" &&
		mount --rbind /sys "$0/sys" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"' \
		"$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root TERM=dumb \
		DEBIAN_FRONTEND=noninteractive FULL="${FULL:-}" "$@"
}

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
