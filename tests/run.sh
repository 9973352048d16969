#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs test programs one after the other, each with a time limit. A program made with cmocka counts test by test, and a test
# that skips says why in the line before; any other program is one test: 0 passed, 77 skipped (a failure unless ALLOW_SKIP
# names the program; its last line says why), anything else failed. The last line has the sums; with TEST_RESULTS=file they
# go there as well, with the names of what was skipped and what failed (tests/all.sh).
# gcc 13.2 (Ubuntu 24.04) aligns the sanitizer's fake stack too little for AVX-512: gcc bug 110027.
export ASAN_OPTIONS="detect_stack_use_after_return=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
passed=0 failed=0 skipped=0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
out=$dir/out err=$dir/err notes=$dir/notes
: >"$notes"

# Reads what a cmocka program printed: one line for each test that did not pass, and "sum OK FAILED SKIPPED" at the end.
judge() { # PROGRAM
	awk -v t="$1" '
		/^\[ RUN      \] / { if (open) fail(); name = substr($0, 14); open = 1; run = 1 }
		/^\[       OK \] / { ok++; open = 0 }
		/^\[  SKIPPED \] / && open {
			if (last ~ /^\[ RUN/) { print "fail\t" t " " name " (skipped without a reason)"; failed++ }
			else { print "skip\t" t " " name "\t" last; skipped++ }
			open = 0
		}
		/^\[  FAILED  \] / && open { fail() }
		{ last = $0 }
		function fail() { failed++; open = 0; print "fail\t" t " " name }
		END { if (open) fail(); if (run) print "sum\t" ok + 0 "\t" failed + 0 "\t" skipped + 0 }
	' "$out"
}

for t in "$@"; do
	# shellcheck disable=SC2086
	timeout "${TEST_TIMEOUT:-300}" "$t" $TEST_ARGS >"$out" 2>"$err"
	rc=$?
	judge "$t" >"$dir/judged"
	# shellcheck disable=SC2046
	set -- $(sed -n 's/^sum\t//p' "$dir/judged")
	ok=${1:-0} bad=${2:-0} skip=${3:-0}
	if [ $# -eq 0 ] && [ $rc -eq 0 ]; then
		ok=1
	elif [ $# -eq 0 ] && [ $rc -eq 77 ] && echo " $ALLOW_SKIP " | grep -q " $(basename "$t") "; then
		skip=1
		printf 'skip\t%s\t%s\n' "$t" "$(cat "$out" "$err" | tail -n 1)" >>"$dir/judged"
	elif [ $rc -ne 0 ] && [ "$bad" -eq 0 ]; then
		bad=1
		printf 'fail\t%s (exit %d)\n' "$t" $rc >>"$dir/judged"
	fi
	passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
	if [ "$bad" -eq 0 ]; then
		echo "ok      $t"
	else
		echo "FAILED  $t (exit $rc)"
		cat "$out" "$err" | sed 's/^/    /' | tail -n 60
	fi
	grep -v '^sum' "$dir/judged" | tee -a "$notes" | awk -F'\t' '$1 == "skip" { print "skipped " $2 ": " $3 }'
done
if [ -n "${TEST_RESULTS:-}" ]; then
	printf 'count\t%d\t%d\t%d\n' $passed $failed $skipped >>"$TEST_RESULTS"
	cat "$notes" >>"$TEST_RESULTS"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
