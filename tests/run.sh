#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs test programs one after the other, each with a time limit: 0 passed, 77 skipped (a failure
# unless ALLOW_SKIP names the program), anything else failed. Prints a closing line CI can read.
# gcc 13.2 (Ubuntu 24.04) aligns the sanitizer's fake stack too little for AVX-512: gcc bug 110027.
export ASAN_OPTIONS="detect_stack_use_after_return=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
passed=0 failed=0 skipped=0
for t in "$@"; do
	log=$(mktemp)
	# shellcheck disable=SC2086
	timeout "${TEST_TIMEOUT:-300}" "$t" $TEST_ARGS >"$log" 2>&1
	rc=$?
	if [ $rc -eq 0 ]; then
		passed=$((passed + 1))
		echo "ok      $t"
	elif [ $rc -eq 77 ] && echo " $ALLOW_SKIP " | grep -q " $(basename "$t") "; then
		skipped=$((skipped + 1))
		echo "skipped $t: $(tail -n 1 "$log")"
	else
		failed=$((failed + 1))
		echo "FAILED  $t (exit $rc)"
		sed 's/^/    /' "$log" | tail -n 60
	fi
	rm -f "$log"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
