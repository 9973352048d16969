#!/bin/sh
# SPDX-License-Identifier: MIT
# dirs.sh make ROOT LIST DIR...: makes the directories ROOT/DIR and notes those that were not there in ROOT/LIST;
# none where one of them may not be written.
# dirs.sh remove ROOT LIST: removes the directories noted there as far as they are empty, and the list.
# So uninstalling takes away what installing brought, and no directory that was there before.
set -eu
what=$1 root=$2 list=$3
shift 3
case $what in
make)
	for dir in "$@"; do # before anything is made: no half of an installation
		at=$root$dir # ROOT itself may not be there yet, and need not begin with a slash
		while [ -n "$at" ] && [ ! -d "$at" ]; do
			case $at in
			*/*) at=${at%/*} ;;
			*) at=. ;;
			esac
		done
		[ -w "${at:-/}" ] || {
			echo "$root$dir cannot be written here: as root, or with PREFIX= and CONFDIR= that can" >&2
			exit 1
		}
	done
	new=
	for dir in "$@"; do
		missing=
		while [ -n "$dir" ] && [ ! -d "$root$dir" ]; do
			missing="$dir
$missing"
			dir=${dir%/*}
		done
		for dir in $missing; do
			mkdir -p "$root$dir"
			new="$new$dir
"
		done
	done
	mkdir -p "$root${list%/*}"
	printf %s "$new" >>"$root$list"
	;;
remove)
	[ -e "$root$list" ] || exit 0
	dirs=$(sort -r "$root$list")
	rm "$root$list"
	for dir in $dirs; do # the longest first, so that what is inside goes before
		[ ! -d "$root$dir" ] || rmdir "$root$dir" 2>/dev/null || true
	done
	;;
esac
