#!/bin/sh
# SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT
# check.sh KDIR OUT: the module under the kernel's own checkers: sparse, checkpatch --strict, coccinelle.
# Any finding fails, and so does a missing tool (by name). checkpatch and the semantic patches come
# from LINUX_SOURCE (an unpacked kernel source); without it Debian's linux-source-6.12 is fetched
# into OUT/linux-scripts (no installation, not committed).
set -eu
[ $# -eq 2 ] || { echo "usage: kmod/check.sh KDIR OUT" >&2; exit 2; }
top=$(cd "$(dirname "$0")/.." && pwd)
kdir=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)
for tool in sparse spatch perl make gcc; do
	command -v $tool >/dev/null || { echo "check-kmod: $tool is missing" >&2; exit 1; }
done
cd "$top"
bad=0

scripts=${LINUX_SOURCE:+$LINUX_SOURCE/scripts}
if [ -z "$scripts" ]; then
	scripts=$out/linux-scripts
	if [ ! -e "$scripts/complete" ]; then
		rm -rf "$scripts"
		mkdir -p "$scripts/deb"
		(cd "$scripts/deb" && apt-get download -qq linux-source-6.12 && dpkg-deb -x ./*.deb .) ||
			{ echo "check-kmod: checkpatch is missing (linux-source-6.12)" >&2; exit 1; }
		tar -C "$scripts" --strip-components=2 -xf "$scripts"/deb/usr/src/linux-source-*.tar.xz \
			--wildcards '*/scripts/checkpatch.pl' '*/scripts/spelling.txt' \
			'*/scripts/const_structs.checkpatch' '*/scripts/coccinelle/*'
		rm -rf "$scripts/deb"
		touch "$scripts/complete"
	fi
fi
[ -r "$scripts/checkpatch.pl" ] || { echo "check-kmod: checkpatch is missing in $scripts" >&2; exit 1; }

# A module of its own, built with W=1: whatever the compiler or sparse says is a finding.
rm -rf "$out/sparse"
if ! kmod/build.sh "$kdir" "$out/sparse" W=1 C=2 CF=-D__CHECK_ENDIAN__ >"$out/sparse.log" 2>&1 ||
	grep -q 'warning:\|error:\|WARNING:' "$out/sparse.log"; then
	cat "$out/sparse.log"
	bad=1
fi
echo "sparse: done"

# Version tests belong into compat.h, and only there.
checkpatch() {
	perl "$scripts/checkpatch.pl" --no-tree --strict --quiet --terse --no-summary \
		--max-line-length=100 "$@" || bad=1
}
checkpatch -f $(ls kmod/*.[ch] kmod/Kbuild | grep -v compat.h) uapi/sluice_telemetry.h
checkpatch --ignore LINUX_VERSION_CODE,CONSTANT_COMPARISON -f kmod/compat.h
echo "checkpatch: done"

# Those of the kernel's semantic patches that can apply to a module like this.
cocci="api/alloc/alloc_cast api/alloc/zalloc-simple api/atomic_as_refcounter api/err_cast api/kfree_mismatch
	api/kvmalloc api/memdup_user api/pm_runtime api/vma_pages free/ifnullfree free/kfree
	free/kfreeaddr free/put_device iterators/itnull iterators/list_entry_update
	iterators/use_after_iter locks/call_kern locks/double_lock locks/flags locks/mini_lock
	misc/array_size misc/boolconv misc/cond_no_effect misc/doubleinit misc/excluded_middle
	misc/flexible_array misc/ifcol misc/minmax misc/noderef misc/returnvar misc/semicolon
	misc/test_addr misc/uninitialized_var misc/warn null/deref_null null/eno null/kmerr
	tests/doublebitand tests/doubletest tests/odd_ptr_err tests/unsigned_lesser_than_zero"
count=0
for name in $cocci; do
	file=$scripts/coccinelle/$name.cocci
	[ -r "$file" ] || { echo "check-kmod: $file is missing" >&2; bad=1; continue; }
	options=$(sed -n 's,^// Options:,,p' "$file")
	# shellcheck disable=SC2086
	if ! spatch -D report --very-quiet $options --cocci-file "$file" kmod/*.c >"$out/cocci.log" 2>&1 ||
		[ -s "$out/cocci.log" ]; then
		echo "$name:"
		cat "$out/cocci.log"
		bad=1
	fi
	count=$((count + 1))
done
echo "coccinelle: $count semantic patches done"
[ $bad -eq 0 ] && echo "kmod is clean"
exit $bad
