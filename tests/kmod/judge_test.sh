#!/bin/sh
# SPDX-License-Identifier: MIT
# Description: the judge of guests passes a clean one and fails every kind of broken one.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0

good_tap='TAP version 13
1..2
    ok 1 - inner
    1..1
ok 1 - one
ok 2 - two
# rig: done'

unset TEST_RESULTS # made-up guests do not count

check() { # WANT(0|1) TEXT LOG TAP [QEMU_STATUS]
	printf '%s\n' "$3" > "$dir/log"
	printf '%s\n' "$4" > "$dir/tap"
	got=0
	"$here/judge.sh" made-up "$dir/log" "$dir/tap" "${5:-0}" 1 > "$dir/out" 2>&1 || got=1
	[ "$got" -eq "$1" ] && return
	echo "not ok - $2"
	cat "$dir/out"
	bad=1
}

check 0 "a clean guest" "[ 1.0] rig: start one" "$good_tap"
check 1 "qemu failed" "" "$good_tap" 1
check 1 "time limit" "" "$good_tap" 124
check 1 "no output" "" ""
check 1 "died before the end" "" "$(echo "$good_tap" | sed '$d')"
check 1 "a test missing" "" "$(echo "$good_tap" | sed '/^ok 2/d')"
check 1 "a test failed" "" "$(echo "$good_tap" | sed 's/^ok 2/not ok 2/')"
check 1 "empty plan" "" "1..0
# rig: done"
check 1 "the guest's own finding" "" "$good_tap
# rig: broken: lockdep is off"
while read -r line; do
	check 1 "$line" "[    9.1] $line" "$good_tap"
done <<LINES
BUG: KASAN: slab-use-after-free in sluice_release+0x1/0x2
BUG: unable to handle page fault for address: ffff
WARNING: CPU: 0 PID: 1 at mm/vmalloc.c:1 vfree
WARNING: possible circular locking dependency detected
WARNING: suspicious RCU usage
BUG: sleeping function called from invalid context at mm.c:1
INFO: task init:1 blocked for more than 120 seconds.
UBSAN: array-index-out-of-bounds in x.c:1
Oops: general protection fault, probably for non-canonical address
Kernel panic - not syncing: Attempted to kill init!
kmemleak: unreferenced object 0xffff888 (size 128):
ODEBUG: free active (active state 0) object type: timer_list
LINES
tab=$(printf '\t')
dying="[ 62.8] WARNING: CPU: 1 PID: 26 at kernel/sched/core.c:8365 sched_cpu_dying+0x93/0x230"
stopper="[ 62.8] CPU1 enqueued tasks (2 total):
[ 62.8] ${tab}pid: 26, name: migration/1"
check 0 "the fair server of 6.12" "$dying
$stopper" "$good_tap"
check 1 "a dying CPU without its list" "$dying" "$good_tap"
check 1 "a task stayed on a dying CPU" "$dying
$stopper
[ 62.8] ${tab}pid: 99, name: kworker/1:0" "$good_tap"
rm "$dir/log"
got=0
"$here/judge.sh" made-up "$dir/no" "$dir/neither" 0 1 > /dev/null 2>&1 || got=1
[ $got -eq 1 ] || { echo "not ok - no files at all"; bad=1; }
[ $bad -eq 0 ] && echo "ok   the judge of guests"
exit $bad
