#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: in-root.sh ROOT DIR COMMAND...
# Runs a command in another system's tree, with this machine's DIR at its own path, the current
# folder kept and /proc there. The mounts live in a mount namespace of their own and end with the
# command. Needs root.
set -eu
root=$1 dir=$2
shift 2
[ "$(id -u)" -eq 0 ] || { echo "in-root: needs root" >&2; exit 1; }
mkdir -p "$root$dir"
# shellcheck disable=SC2016 # expanded by the inner shell
exec unshare -m sh -eu -c '
	root=$1 dir=$2 cwd=$3
	shift 3
	mount --make-rprivate /
	mount --bind "$dir" "$root$dir"
	mount -t proc proc "$root/proc"
	mount --bind /dev "$root/dev"
	exec chroot "$root" /bin/sh -c "cd \"\$0\" && exec \"\$@\"" "$cwd" "$@"
' sh "$root" "$dir" "$PWD" "$@"
