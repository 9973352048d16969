#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: judge.sh NAME LOG TAP QEMU_STATUS SECONDS
# Reads what a guest left behind and says in one line whether it passed; on failure also why. Knows
# nothing of how the guest was started, so that it can be tested on made-up logs (judge_test.sh).
set -eu
name=$1 log=$2 tap=$3 rc=$4 seconds=$5

# What a kernel says when something is wrong with it.
bad='BUG:|WARNING:|Oops|KASAN|UBSAN|ODEBUG:|DEBUG_LOCKS_WARN|suspicious RCU|Kernel panic'
bad="$bad|possible (circular|recursive) locking|possible irq lock inversion|inconsistent lock state"
bad="$bad|INFO: (task|rcu|trying|possible)|scheduling while atomic|sleeping function called"
bad="$bad|general protection|unable to handle|leaked|unreferenced object|bad page state"
bad="$bad|rig: broken"

# What stock kernels say without our doing, as narrow as can be; said aloud whenever it is met.
# sched_cpu_dying: 6.12's scheduler counts its fair server as a task of the CPU that goes offline
# (docs/kmod-testing.md). Known only if each list that follows counts two and names the stopper
# alone: a task that stayed would be named.
known='WARNING: CPU: [0-9]+ PID: [0-9]+ at kernel/sched/core.c:[0-9]+ sched_cpu_dying'
is_fair_server() { # LOG
	tr -d '\r' < "$1" | awk -v known="$known" '
		$0 ~ known { warned++ }
		/CPU[0-9]+ enqueued tasks \(2 total\):/ { lists++ }
		/\tpid: [0-9]+, name: / { if (/name: migration\/[0-9]+$/) stoppers++; else others++ }
		END { exit !(warned == lists && lists == stoppers && !others) }'
}

why=
[ "$rc" -eq 0 ] || why="$why; qemu ended with $rc"
[ "$rc" -ne 124 ] || why="$why (time limit)"
clean=$(mktemp)
trap 'rm -f "$clean"' EXIT
tr -d '\r' < "$tap" 2>/dev/null > "$clean" || true
plan=$(sed -n 's/^1\.\.\([0-9][0-9]*\)$/\1/p' "$clean" | head -1)
passed=$(grep -c '^ok ' "$clean" || true)
skipped=$(grep -c '^ok .*# SKIP' "$clean" || true)
broken=$(grep -c '^not ok ' "$clean" || true)
[ -n "$plan" ] || why="$why; no plan reported"
[ "${plan:-1}" -gt 0 ] || why="$why; an empty plan"
[ "$broken" -eq 0 ] || why="$why; $broken failed"
[ $((passed + broken)) -eq "${plan:-0}" ] || why="$why; $((passed + broken)) of ${plan:-0} reported"
grep -qx '# rig: done' "$clean" || why="$why; the guest did not come to its end"
[ ! -r "$log" ] || is_fair_server "$log" || known='^$'
lines=$(cat "$log" "$clean" 2>/dev/null | tr -d '\r' | grep -aE "$bad" | grep -avE "$known" || true)
strange=$(grep -acE "$known" "$log" 2>/dev/null || true)
[ -z "$lines" ] || why="$why; the kernel log reports $(echo "$lines" | wc -l) lines"

# For the last line of make test (tests/all.sh): top-level results, at least one failed where something is wrong.
if [ -n "${TEST_RESULTS:-}" ]; then
	[ -z "$why" ] || [ "$broken" -gt 0 ] || broken=1
	printf 'count\t%d\t%d\t%d\n' $((passed - skipped)) "$broken" "$skipped" >> "$TEST_RESULTS"
	[ -z "$why" ] || printf 'fail\t%s: %s\n' "$name" "${why#; }" >> "$TEST_RESULTS"
	sed -n "s/^ok [0-9]* -* *\(.*\) # SKIP */skip\t$name \1\t/p" "$clean" >> "$TEST_RESULTS"
fi

if [ -z "$why" ]; then
	echo "ok   $name: $passed passed ($skipped skipped), $seconds s"
	[ "${strange:-0}" -eq 0 ] || echo "     known trouble of this kernel in the log: $strange times"
	grep -E '^ *ok .*# SKIP' "$clean" | sed 's/^ *ok [0-9]* -* */     not tried: /' || true
	exit 0
fi
echo "FAIL $name: ${why#; }, $seconds s"
grep -E '^ *not ok ' "$clean" | sed 's/^/     /' | head -40 || true
[ -z "$lines" ] || echo "$lines" | head -20 | sed 's/^/     /'
echo "     logs: $log $tap"
exit 1
