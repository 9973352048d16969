#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: run.sh PROGRAM...
# Runs test programs, each with a time limit: TEST_JOBS of them side by side (1), those named in TEST_ALONE one by one after
# the others. A program made with cmocka counts test by test, and a test
# that skips says why in the line before; any other program is one test: 0 passed, 77 skipped (a failure unless ALLOW_SKIP
# names the program; its last line says why), anything else failed. The last line has the sums; with TEST_RESULTS=file they
# go there as well, with the names of what was skipped and what failed (tests/all.sh).
# gcc 13.2 (Ubuntu 24.04) aligns the sanitizer's fake stack too little for AVX-512: gcc bug 110027.
export ASAN_OPTIONS="detect_stack_use_after_return=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}"

# Reads what a cmocka program printed: one line for each test that did not pass, and "sum OK FAILED SKIPPED" at the end.
judge() { # PROGRAM OUTPUT
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
	' "$2"
}

# One program: what it said and how it was judged go to a folder of its own, its report to stdout in one piece.
one() { # DIR PROGRAM
	t=$2
	own=$(mktemp -d "$1/XXXXXX") || exit 1
	out=$own/out err=$own/err
	# shellcheck disable=SC2086
	timeout "${TEST_TIMEOUT:-300}" "$t" $TEST_ARGS >"$out" 2>"$err"
	rc=$?
	judge "$t" "$out" >"$own/judged"
	# shellcheck disable=SC2046
	set -- "$1" $(sed -n 's/^sum\t//p' "$own/judged")
	ok=${2:-0} bad=${3:-0} skip=${4:-0}
	if [ $# -eq 1 ] && [ $rc -eq 0 ]; then
		ok=1
	elif [ $# -eq 1 ] && [ $rc -eq 77 ] && echo " $ALLOW_SKIP " | grep -q " $(basename "$t") "; then
		skip=1
		printf 'skip\t%s\t%s\n' "$t" "$(cat "$out" "$err" | tail -n 1)" >>"$own/judged"
	elif [ $rc -ne 0 ] && [ "$bad" -eq 0 ]; then
		bad=1
		printf 'fail\t%s (exit %d)\n' "$t" $rc >>"$own/judged"
	fi
	{
		if [ "$bad" -eq 0 ]; then
			echo "ok      $t"
		else
			echo "FAILED  $t (exit $rc)"
			cat "$out" "$err" | sed 's/^/    /' | tail -n 60
		fi
		awk -F'\t' '$1 == "skip" { print "skipped " $2 ": " $3 }' "$own/judged"
	} >"$own/report"
	grep -v '^sum' "$own/judged" >"$own/notes"
	echo "$ok $bad $skip" >"$own/count"
	flock "$1/lock" cat "$own/report"
}

if [ "$1" = --one ]; then
	one "$2" "$3"
	exit 0
fi

is_alone() { # PROGRAM
	echo " $TEST_ALONE " | grep -q " $(basename "$1") "
}

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for t in "$@"; do
	is_alone "$t" || echo "$t"
done | xargs -r -d '\n' -n 1 -P "${TEST_JOBS:-1}" "$0" --one "$dir"
for t in "$@"; do
	is_alone "$t" && "$0" --one "$dir" "$t"
done

# shellcheck disable=SC2046
set -- $# $(cat "$dir"/*/count 2>/dev/null | awk '{ p += $1; f += $2; s += $3 } END { print NR, p + 0, f + 0, s + 0 }')
passed=$3 failed=$4 skipped=$5
if [ "$1" -ne "$2" ]; then # one was killed together with its run.sh
	failed=$((failed + $1 - $2))
	echo "FAILED  $(($1 - $2)) of $1 programs have no result"
	mkdir "$dir/none" && printf 'fail\t%d of %d programs have no result\n' $(($1 - $2)) "$1" >"$dir/none/notes"
fi
if [ -n "${TEST_RESULTS:-}" ]; then
	printf 'count\t%d\t%d\t%d\n' "$passed" "$failed" "$skipped" >>"$TEST_RESULTS"
	cat "$dir"/*/notes >>"$TEST_RESULTS"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
