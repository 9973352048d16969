#!/bin/sh
# SPDX-License-Identifier: MIT
# A virtual environment with published clients, for tests. usage: venv.sh DIR REQUIREMENTS
# Made anew only when REQUIREMENTS changed. Exit status 1 and a line where the registry cannot be reached.
set -eu
dir=$1 list=$2
if [ -f "$dir/made" ] && cmp -s "$list" "$dir/made"; then
	exit 0
fi
rm -rf "$dir"
mkdir -p "$(dirname "$dir")"
if ! python3 -m venv "$dir" >"$dir.log" 2>&1; then
	echo "cannot make a virtual environment: $(tail -n 1 "$dir.log")"
	exit 1
fi
if ! timeout 240 "$dir/bin/pip" install --quiet --disable-pip-version-check --retries 2 -r "$list" >>"$dir.log" 2>&1; then
	echo "the Python package registry cannot be reached or lacks a package: $(tail -n 1 "$dir.log")"
	exit 1
fi
cp "$list" "$dir/made"
