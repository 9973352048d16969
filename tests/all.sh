#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: all.sh RESULTS "MAKE COMMAND"
# What `make test` runs, stage by stage: cheap checks first. A stage that builds ends the run when it fails, a stage that tests
# does not: the others still say what they find. Stages write to RESULTS (tests/run.sh, tests/conftest.py): "count" with passed,
# failed, skipped; "skip" with a name and the reason; "fail" with a name. A stage that writes nothing there is one test.
# Ends with the time of each stage, what was skipped and what failed by name, and in the last line the sums over all stages.
results=$1 make=$2
times=$results.times
export TEST_RESULTS="$results"
mkdir -p "$(dirname "$results")"
: >"$results"
: >"$times"

count() { printf 'count\t%d\t%d\t%d\n' "$1" "$2" 0 >>"$results"; }
counts() { grep -c '^count' "$results"; }
failures() { awk -F'\t' '$1 == "count" { n += $3 } END { print n + 0 }' "$results"; }

run() { # NAME TARGETS...
	name=$1
	shift
	echo "== $name"
	began=$(date +%s)
	# shellcheck disable=SC2086
	$make --no-print-directory "$@"
	rc=$?
	echo "$name: $(($(date +%s) - began)) s" >>"$times"
	return $rc
}

failed() { # NAME
	count 0 1
	printf 'fail\t%s\n' "$1" >>"$results"
}

build() { # NAME TARGETS...
	run "$@" && return
	failed "$1"
	finish
}

check() { # NAME TARGETS...
	had=$(counts)
	had_failures=$(failures)
	if run "$@"; then
		[ "$(counts)" -gt "$had" ] || count 1 0
	elif [ "$(failures)" -eq "$had_failures" ]; then
		failed "$1"
	fi
}

finish() {
	echo "== the whole"
	cat "$times"
	awk -F'\t' '$1 == "skip" { print "skipped " $2 ": " $3 } $1 == "fail" { print "FAILED  " $2 }' "$results"
	awk -F'\t' '$1 == "count" { p += $2; f += $3; s += $4 }
		END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f != 0 || p == 0 }' "$results"
	exit $?
}

jobs=-j$(nproc)
build build WERROR=1 "$jobs" all
check layers check-layers
check format check-format
check scripts check-scripts
build "unit programs" WERROR=1 "$jobs" unit-programs
check unit unit
build "unit programs, sanitized" SAN=address,undefined "$jobs" unit-programs
check "unit, sanitized" SAN=address,undefined unit
build "build, sanitized" SAN=address,undefined "$jobs" all
check e2e E2E_JOBS="${E2E_JOBS:-2}" e2e
check "templates beside Jinja2" WERROR=1 diff-jinja
check "fuzzers on their seeds" "$jobs" fuzz-seeds
build "CUDA programs on the CPU" WERROR=1 "$jobs" emu-programs
check "seeded faults" WERROR=1 test-gpu-seeded
check "CUDA on the CPU" WERROR=1 test-gpu-emu-programs
check "kernel module" WERROR=1 test-kmod-row
check "control groups in a guest" WERROR=1 test-cgroup
finish
