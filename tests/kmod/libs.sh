#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: libs.sh ROOT PROGRAM...
# Copies the shared libraries that the programs need into a guest's tree, where its loader looks for
# them.
set -eu
root=$1
shift
for lib in $(ldd "$@" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/lib64[^ ]*\) .*/\1/p' | sort -u); do
	mkdir -p "$root$(dirname "$lib")"
	cp -L "$lib" "$root$lib"
done
