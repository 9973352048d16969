#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: carried.sh PROGRAMS OUT
# On a machine with a GPU, for programs built elsewhere (make gpu-programs): every test with the shapes of
# published models, then with small ones under compute-sanitizer's four tools where that is installed,
# then the benchmark. PROGRAMS is build/gpu/run, OUT takes logs and tables; SHARED names the fixtures (without it: tests/data).
# Ends with a line that counts; exit 1 if anything failed.
set -u
programs=$1 out=$2
jobs=${JOBS:-8}
mkdir -p "$out"

# NAME COMMAND...: its log in OUT, one line on stdout
# shellcheck disable=SC2016 # expanded by the shells that xargs starts
one='name=$1; shift; log=$OUT_DIR/$name.log
"$@" > "$log" 2>&1; rc=$?
[ $rc -eq 0 ] && echo "ok $name: $(tail -n 1 "$log")" || echo "FAILED $name (exit $rc): $(tail -n 1 "$log")"'
export OUT_DIR="$out"

for t in "$programs"/test_*; do
	case $t in *.d) continue ;; esac
	echo "$(basename "$t") timeout ${TEST_TIMEOUT:-300} $t --all"
done > "$out/list"
if command -v compute-sanitizer > /dev/null; then
	for tool in memcheck racecheck initcheck synccheck; do
		for t in "$programs"/test_*; do
			case $t in *.d) continue ;; esac
			echo "$tool-$(basename "$t") timeout ${TEST_TIMEOUT:-300} compute-sanitizer --tool $tool --error-exitcode 9 $t"
		done
	done >> "$out/list"
else
	echo "compute-sanitizer is not installed: its checks are left out"
fi
xargs -a "$out/list" -P "$jobs" -L 1 sh -c "$one" sh > "$out/results"
sort "$out/results"
passed=$(grep -c '^ok ' "$out/results")
failed=$(grep -c '^FAILED ' "$out/results")
# alone on the GPU, after the tests
if "$programs/bench_gpu" --json "$out/bench.json" > "$out/bench.md" 2>&1; then
	cat "$out/bench.md"
else
	failed=$((failed + 1))
	tail -n 3 "$out/bench.md"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
