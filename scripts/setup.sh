#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: setup.sh GROUP...   (groups of packages.txt)
# Installs what is missing where it may (root, apt), else prints the exact command and fails.
set -eu
here=$(dirname "$0")
missing=
for group in "$@"; do
	for package in $(awk -v g="$group" '$1 == g { print $2 }' "$here/packages.txt"); do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
			missing="$missing $package"
	done
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null; then
	echo "Sluice needs these Debian packages, or what they are called here:$missing" >&2
	exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "Missing packages. Install them with:" >&2
	echo "    sudo apt-get install$missing" >&2
	exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || echo "apt-get update failed, trying with the lists that are here" >&2
apt-get install -y -qq $missing >/dev/null
