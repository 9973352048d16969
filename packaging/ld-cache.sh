#!/bin/sh
# SPDX-License-Identifier: MIT
# ld-cache.sh DESTDIR LIBDIR: after libraries came or went. Refreshes the run-time linker's list where that is
# ours to do, and says what is missing where programs would not find the library.
set -eu
[ -z "$1" ] || exit 0 # a tree that somebody else will put in place
[ "$(id -u)" -ne 0 ] || ldconfig 2>/dev/null || true
if [ -e "$2/libsluice.so.0" ] && ! ldconfig -p 2>/dev/null | grep -q " => $2/libsluice.so.0\$"; then
	echo "The run-time linker does not look in $2: programs need LD_LIBRARY_PATH=$2, or as root:"
	echo "    echo $2 > /etc/ld.so.conf.d/sluice.conf && ldconfig"
fi
