#!/bin/sh
# SPDX-License-Identifier: MIT
# A virtual environment with published clients, for tests. usage: venv.sh DIR REQUIREMENTS [uv|alone]
# Made anew only when REQUIREMENTS changed, by one caller at a time. Exit status 1 and a line where the registry cannot be reached. With uv the package of
# that name installs (beside DIR, from the same registry): programs with hundreds of packages take seconds instead of many minutes.
set -eu
dir=$1 list=$2 with=${3:-pip}
is_made() {
	[ -f "$dir/made" ] && cmp -s "$list" "$dir/made"
}
is_made && exit 0
fail() {
	echo "the Python package registry cannot be reached or lacks a package: $(tail -n 1 "$dir.log")"
	exit 1
}
make_venv() { # DIR
	rm -rf "$1"
	if ! python3 -m venv "$1" >"$dir.log" 2>&1; then
		echo "cannot make a virtual environment: $(tail -n 1 "$dir.log")"
		exit 1
	fi
}
pip_install() { # DIR ARGS...
	venv=$1
	shift
	timeout 240 "$venv/bin/pip" install --quiet --disable-pip-version-check --retries 2 "$@" >>"$dir.log" 2>&1 || fail
}
mkdir -p "$(dirname "$dir")"
# two tests may ask for it at once: the second waits, and finds it made
exec 9>"$dir.lock"
flock 9
is_made && exit 0
if [ "$with" = uv ]; then
	uv=$(dirname "$dir")/uv
	if [ ! -x "$uv/bin/uv" ]; then
		make_venv "$uv"
		pip_install "$uv" uv
	fi
	make_venv "$dir"
	VIRTUAL_ENV=$dir timeout 600 "$uv/bin/uv" pip install --quiet -r "$list" >>"$dir.log" 2>&1 || fail
else
	make_venv "$dir"
	if [ "$with" = alone ]; then
		pip_install "$dir" --no-deps -r "$list"
	else
		pip_install "$dir" -r "$list"
	fi
fi
cp "$list" "$dir/made"
