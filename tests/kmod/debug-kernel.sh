#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: debug-kernel.sh
# Builds the kernel of the debug rows from Debian's linux-source-6.12 and debug.config, and prints
# nothing but its directory ($KERNELS/debug) on stdout. The result has the shape of the other
# kernels (see kernels.sh): vmlinuz, krel, build -> the tree. It is kept and built again only when
# the source package or debug.config changes. About 8 minutes on two cores, 3 GB.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
KERNELS=${KERNELS:-build/kernels}
mkdir -p "$KERNELS"
KERNELS=$(cd "$KERNELS" && pwd)
dir=$KERNELS/debug
source=linux-source-6.12

say() { echo "debug-kernel: $*" >&2; }

exec 9>"$KERNELS/debug.lock"
flock 9

version=$(apt-cache show "$source" 2>/dev/null | awk '$1 == "Version:" { print $2; exit }')
if [ -z "$version" ]; then
	[ -f "$dir/stamp" ] || { say "apt knows no $source (apt-get update?)"; exit 1; }
	version=$(cut -d' ' -f1 "$dir/stamp")
fi
stamp="$version $(sha256sum "$here/debug.config" | cut -c1-16)"
if [ "$(cat "$dir/stamp" 2>/dev/null)" = "$stamp" ]; then
	echo "$dir"
	exit 0
fi

tree=$dir/linux
mkdir -p "$dir"
rm -f "$dir/stamp"
if [ "$(cat "$dir/unpacked" 2>/dev/null)" != "$version" ]; then
	say "unpacking $source $version"
	rm -rf "$tree" "$dir/unpacked" "$dir/deb"
	mkdir -p "$tree" "$dir/deb"
	(cd "$dir/deb" && apt-get download -qq "$source" >&2 && dpkg-deb -x ./*.deb .)
	tar -C "$tree" --strip-components=1 -xf "$dir/deb/usr/src/$source.tar.xz"
	rm -rf "$dir/deb"
	echo "$version" > "$dir/unpacked"
fi

say "configuring"
make -s -C "$tree" tinyconfig >&2
cat "$here/debug.config" >> "$tree/.config"
make -s -C "$tree" olddefconfig 2>&1 | grep -v "warning: override" >&2 || true
lost=$(grep -E '^(CONFIG_|# CONFIG_)' "$here/debug.config" | while read -r line; do
	grep -qxF "$line" "$tree/.config" && continue
	# An option whose dependencies fail is not mentioned at all: as good as "not set".
	case $line in
	"# "*) name=${line#\# }; grep -q "^${name%% *}=" "$tree/.config" || continue ;;
	esac
	echo "$line"
done)
if [ -n "$lost" ]; then
	say "the kernel's configuration dropped:"
	echo "$lost" >&2
	exit 1
fi

say "building (log: $dir/build.log)"
start=$(date +%s)
if ! nice -n 19 make -C "$tree" -j"${JOBS:-2}" bzImage modules > "$dir/build.log" 2>&1; then
	tail -20 "$dir/build.log" >&2
	exit 1
fi
cp "$tree/arch/x86/boot/bzImage" "$dir/vmlinuz"
make -s -C "$tree" kernelrelease > "$dir/krel"
ln -sfn linux "$dir/build"
echo "$stamp" > "$dir/stamp"
say "built in $(($(date +%s) - start)) s"
echo "$dir"
