#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: kernels.sh ROW...        rows: 6.1-cloud 6.1 6.1-rt 6.12 7 debug
# Fetches the Debian kernel of each row and the headers to build modules for it, without installing
# anything: $KERNELS/<release>/{vmlinuz,krel,build/} and a link $KERNELS/<row> to it. `build`
# is what KDIR= takes. A row that is there is left alone (REFRESH=1 asks apt again). Prints a line
# for each row and fails if one could not be had. Row 7 is the kernel of trixie-backports: its tools
# need a newer libc and gcc than Debian 12 has, so a small Debian 13 tree comes with it in
# $KERNELS/<release>/root (in-root.sh runs a command there; needs root).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
KERNELS=${KERNELS:-build/kernels}
mkdir -p "$KERNELS"
KERNELS=$(cd "$KERNELS" && pwd)
export KERNELS

say() { echo "kernels: $*" >&2; }

exec 8>"$KERNELS/fetch.lock"
flock 8

# Options for apt: none, or lists of our own, so that the machine's apt is not touched and need not
# know the packages.
apt_options=
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
own_lists() { # NAME "URI SUITE"...
	if [ ! -s "$keyring" ]; then
		say "no $keyring to check Debian's lists with (package debian-archive-keyring)"
		return 1
	fi
	apt=$KERNELS/apt-$1
	shift
	mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/etc"
	: > "$apt/status"
	for suite in "$@"; do
		echo "deb [signed-by=$keyring] $suite main"
	done > "$apt/etc/sources.list"
	apt_options="-o Dir::State::lists=$apt/lists -o Dir::State::status=$apt/status
		-o Dir::Cache::archives=$apt/archives -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
		-o Dir::Etc::sourcelist=$apt/etc/sources.list -o Dir::Etc::sourceparts=/dev/null
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
		-o APT::Sandbox::User=root -o APT::Install-Recommends=false -o Dpkg::Use-Pty=0"
	# shellcheck disable=SC2086 # a list of options
	apt-get $apt_options update -qq && return
	say "cannot read the lists of: $*"
	return 1
}

depends() { # PACKAGE: names it depends on, alternatives dropped
	# shellcheck disable=SC2086
	apt-cache $apt_options show --no-all-versions "$1" 2>/dev/null | sed -n 's/^Depends: //p' | head -1 |
		tr ',' '\n' | sed 's/|.*//; s/(.*//; s/ //g'
}

# Headers packages refer to each other by absolute paths below /usr: point them into DIR.
relocate() { # DIR
	find "$1/usr/src" "$1/usr/lib" -maxdepth 2 -type f \
		\( -name Makefile -o -name '.kernelvariables' \) -exec \
		sed -i "s,\([ \"'=:]\|^\)/usr/\(src\|lib\)/linux-,\1$1/usr/\2/linux-,g" {} +
	find "$1/usr/src" "$1/usr/lib" -type l -lname '/usr/*' | while read -r link; do
		ln -sfn "$1$(readlink "$link")" "$link"
	done
}

unpack() { # KREL DIR: debs in DIR/deb become DIR/{vmlinuz,krel,build}
	for deb in "$2"/deb/*.deb; do
		case $deb in
		*/linux-image-*|*/linux-binary-*)
			where=$(dpkg-deb -c "$deb" | grep -o '\./[^ ]*/vmlinuz[^ /]*$')
			dpkg-deb --fsys-tarfile "$deb" | tar -C "$2" -xO "$where" > "$2/vmlinuz" ;;
		*/linux-headers-*|*/linux-kbuild-*)
			dpkg-deb -x "$deb" "$2" ;;
		esac
	done
	rm -rf "$2/deb"
	relocate "$2"
	ln -sfn "usr/src/linux-headers-$1" "$2/build"
	# There for BTF only, which would need pahole: without it kbuild skips BTF.
	rm -f "$2/build/vmlinux"
	[ -s "$2/vmlinuz" ] && [ -f "$2/build/Makefile" ] ||
		{ say "$1: its packages look different from what is known here"; return 1; }
	echo "$1" > "$2/krel"
}

fetch_debian() { # ROW META: META is the package that follows the newest kernel of the row
	image=$(depends "linux-image-$2" | grep '^linux-image-' | head -1)
	krel=${image#linux-image-}
	[ -n "$krel" ] || { say "$1: apt knows no linux-image-$2"; return 1; }
	dir=$KERNELS/$krel
	if [ ! -f "$dir/krel" ]; then
		headers=linux-headers-$krel
		more=$(depends "$headers" | grep -E '^linux-(headers-.*-common|kbuild)')
		rm -rf "$dir"
		mkdir -p "$dir/deb"
		# shellcheck disable=SC2086 # lists of options and packages
		(cd "$dir/deb" && apt-get $apt_options download -qq -o APT::Sandbox::User=root \
			"$image" "$headers" $more) || { say "$1: cannot fetch $krel"; return 1; }
		unpack "$krel" "$dir"
	fi
	ln -sfn "$krel" "$KERNELS/$1"
}

# The machine's lists may be missing, old, or of another release: then Debian 12's own.
fetch_bookworm() { # ROW META
	if fetch_debian "$@"; then
		return
	fi
	say "$1: asking Debian 12's lists"
	own_lists bookworm "http://deb.debian.org/debian bookworm" \
		"http://deb.debian.org/debian-security bookworm-security" && fetch_debian "$@"
}

# Debian 13's backports, and enough of Debian 13 to build for them.
fetch_trixie() { # ROW
	own_lists trixie "http://deb.debian.org/debian trixie" \
		"http://deb.debian.org/debian trixie-backports" ||
		{ say "$1: no lists of trixie-backports"; return 1; }
	# shellcheck disable=SC2086
	image=$(apt-cache $apt_options show linux-image-amd64 |
		grep -o 'linux-image-[0-9][^ ,]*' | sort -V | tail -1)
	krel=${image#linux-image-}
	[ -n "$krel" ] || { say "$1: no kernel in trixie-backports"; return 1; }
	dir=$KERNELS/$krel
	if [ ! -f "$dir/krel" ]; then
		# Newer images are several packages, of which one holds the kernel.
		binary=linux-binary-$krel
		# shellcheck disable=SC2086
		[ -n "$(apt-cache $apt_options show "$binary" 2>/dev/null)" ] || binary=$image
		# shellcheck disable=SC2086
		apt-get $apt_options install -t trixie-backports --download-only -y -qq \
			"$binary" "linux-headers-$krel" gcc make libc6-dev dash coreutils sed \
			grep mawk findutils kmod bash >&2 ||
			{ say "$1: cannot fetch $krel"; return 1; }
		rm -rf "$dir"
		mkdir -p "$dir/deb" "$dir/root/usr/bin" "$dir/root/usr/lib" "$dir/root/usr/lib64" \
			"$dir/root/usr/sbin" "$dir/root/proc" "$dir/root/dev" "$dir/root/tmp"
		for name in bin lib lib64 sbin; do
			ln -s "usr/$name" "$dir/root/$name"
		done
		for deb in "$apt"/archives/*.deb; do
			case $deb in
			*/linux-modules-*) ;;
			*/linux-image-*|*/linux-binary-*|*/linux-headers-*|*/linux-kbuild-*) mv "$deb" "$dir/deb/" ;;
			*) dpkg-deb --fsys-tarfile "$deb" |
				tar -C "$dir/root" --keep-directory-symlink -x ;;
			esac
			rm -f "$deb"
		done
		ln -sf dash "$dir/root/usr/bin/sh"
		ln -sf mawk "$dir/root/usr/bin/awk"
		unpack "$krel" "$dir"
	fi
	rm -rf "$apt"
	ln -sfn "$krel" "$KERNELS/$1"
}

failed=
for row in "$@"; do
	if [ "$row" = debug ]; then
		"$here/debug-kernel.sh" >/dev/null || { failed="$failed $row"; continue; }
	elif [ -z "${REFRESH:-}" ] && [ -f "$KERNELS/$row/krel" ]; then
		:
	else
		# Not "fetch || ...": that would switch set -e off inside.
		set +e
		(
			set -e
			case $row in
			6.1-cloud) fetch_bookworm "$row" cloud-amd64 ;;
			6.1) fetch_bookworm "$row" amd64 ;;
			6.1-rt) fetch_bookworm "$row" rt-amd64 ;;
			6.12) fetch_bookworm "$row" 6.12-amd64 ;;
			7) fetch_trixie "$row" ;;
			*) say "unknown row $row"; exit 1 ;;
			esac
		)
		status=$?
		set -e
		[ $status -eq 0 ] || { failed="$failed $row"; continue; }
	fi
	echo "$row $(cat "$KERNELS/$row/krel") $KERNELS/$row"
done
if [ -n "$failed" ]; then
	say "not available:$failed"
	exit 1
fi
