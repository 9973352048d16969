#!/bin/sh
# SPDX-License-Identifier: MIT
# Prints the version: that of the file VERSION in a release (no repository, or its tag vVERSION is what is
# checked out, unchanged); between releases with the commit behind it, as in 0.1.0+g1a2b3c4 or
# 0.1.0+g1a2b3c4.dirty.
cd "$(dirname "$0")/.." || exit 1
version=$(cat VERSION)
# a release unpacked somewhere inside another repository is not part of that
if [ "$(git rev-parse --show-prefix 2>/dev/null)" = "" ] && commit=$(git rev-parse --short=7 HEAD 2>/dev/null); then
	dirty=
	git diff --quiet HEAD -- 2>/dev/null || dirty=.dirty
	if [ -n "$dirty" ] || [ "$(git rev-parse -q --verify "v$version^{commit}")" != "$(git rev-parse HEAD)" ]; then
		version=$version+g$commit$dirty
	fi
fi
echo "$version"
