# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# Sourced by who makes clean systems (run.sh here, tests/service/root.sh): roots by debootstrap, kept as tar
# files, and commands in them. As root. Needs: roots, the folder of the tar files; work, how names of the roots
# unpacked begin.

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
