#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: debug.sh PROGRAMS_DIR
# The debug kernel's rows (debug-kernel.sh): every program; three modules with a seeded bug, which the
# rig must report, each in a boot of its own since a first report ends some of the detectors;
# FUZZ_SECONDS of fuzz, split over boots of FUZZ_BOOT_SECONDS with different seeds. FUZZ_SEED is the
# first seed (default: the day's number). PARTS narrows it: programs seeds fuzz.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
programs=$1
OUT=${OUT:-build}
LOGS=${LOGS:-$OUT/kmod-logs}
export OUT LOGS
export KERNELS="${KERNELS:-build/kernels}" CPUS=2 MEMORY=1024 NO_PXB=1 TORN="${TORN:-20000}"
# no5lvl: 6.12 wipes the boot CPU's features for a moment, and KASAN, asked by an interrupt just then
# whether page tables have five levels, takes every address for a wild one.
export APPEND="rcupdate.rcu_cpu_stall_suppress=1 no5lvl"
FUZZ_SECONDS=${FUZZ_SECONDS:-1800}
FUZZ_BOOT_SECONDS=${FUZZ_BOOT_SECONDS:-600}
seed=${FUZZ_SEED:-$(($(date +%s) / 86400))}
work=$OUT/kmod-rig
mkdir -p "$work"
failed=0 total=0

row() { # NAME PLAN_LINES
	echo "$2" > "$work/$1.plan"
	NAME=$1 PLAN=$work/$1.plan "$here/row.sh" debug 2 "$programs"
}

# The rig must fail, and for the right reason.
seeded() { # BUG PROGRAM WORDS
	total=$((total + 1))
	name=debug-seed-$1
	if SEED=$1 row "$name" "$2" > "$work/$name.out" 2>&1; then
		echo "FAIL $name: the rig let it pass"
		failed=$((failed + 1))
	elif grep -aqE "$3" "$LOGS/$name.log"; then
		echo "ok   $name: reported: $(grep -aoEm1 "$3.*" "$LOGS/$name.log" | tr -d '\r')"
	else
		echo "FAIL $name: failed, but not by $3"
		cat "$work/$name.out"
		failed=$((failed + 1))
	fi
}

for part in ${PARTS:-programs seeds fuzz}; do
	case $part in
	programs)
		total=$((total + 1))
		LIMIT=1800 PROGRAM_LIMIT=900 row debug-programs "$(cat "$here/plan")" ||
			failed=$((failed + 1)) ;;
	seeds)
		export LIMIT=600 PROGRAM_LIMIT=300
		seeded uaf test_abi 'KASAN: .*use-after-free'
		seeded lock test_period 'possible circular locking dependency'
		seeded leak test_abi 'unreferenced object .*size 128' ;;
	fuzz)
		left=$FUZZ_SECONDS
		while [ "$left" -gt 0 ]; do
			seconds=$((left < FUZZ_BOOT_SECONDS ? left : FUZZ_BOOT_SECONDS))
			total=$((total + 1))
			LIMIT=$((seconds + 600)) PROGRAM_LIMIT=$((seconds + 300)) \
				row "debug-fuzz-$seed" "fuzz $seconds $seed" || failed=$((failed + 1))
			sed -n 's/^ *# /     /p' "$LOGS/debug-fuzz-$seed.tap" 2>/dev/null | tail -n 14
			left=$((left - seconds))
			seed=$((seed + 1))
		done ;;
	*)
		echo "debug: unknown part $part"
		exit 1 ;;
	esac
done
echo "kmod debug: $((total - failed)) of $total passed"
[ "$failed" -eq 0 ]
