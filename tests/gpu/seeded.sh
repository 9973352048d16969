#!/bin/sh
# SPDX-License-Identifier: MIT
# Faults that the shim must find, by name, and a kernel without one. Argument: build directory/gpu.
bad=0
expect() { # flavour, program, what the report says ("" : no report, status 0)
	out=$(timeout 60 "$dir/$1/seeded/$2" 2>&1)
	rc=$?
	if [ -z "$3" ]; then
		[ $rc -eq 0 ] && [ -z "$out" ] && return
	elif [ $rc -ne 0 ] && echo "$out" | grep -q "$3"; then
		return
	fi
	echo "seeded fault $2 ($1): status $rc, wanted '$3':"
	echo "$out" | head -n 5
	bad=1
}
dir=$1
expect san index 'heap-buffer-overflow'
expect san shared_index 'index 64 out of bounds'
expect san misaligned 'misaligned address'
for flavour in san race; do
	expect $flavour barrier 'divergent barrier: kernel seeded_barrier '
	expect $flavour early_exit 'divergent barrier: kernel seeded_early_exit .*has ended'
	expect $flavour mask 'warp mask: kernel seeded_mask .*lane 16'
	expect $flavour unmapped 'unmapped memory: kernel seeded_unmapped .*byte 0 of a range'
	expect $flavour none ''
done
expect race race 'shared memory race: kernel seeded_race .*row'
expect race warp_race 'shared memory race: kernel seeded_warp_race .*row'
expect race uninit 'uninitialised shared memory: kernel seeded_uninit .*row + 20'
expect race copy 'shared memory race: kernel seeded_copy .*cp.async'
expect tsan host_race 'SUMMARY: ThreadSanitizer: data race .*host_race.cu'
expect tsan none ''
[ $bad -eq 0 ] && echo "every seeded fault of kernels is found"
exit $bad
