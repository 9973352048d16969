#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# usage: guest.sh NODES|memless
# Runs in the guest (see run.sh). TAP on stdout, exit 0 or 1.
nodes=$1
failed=0
n=0
check() { # CONDITION-STATUS TEXT
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=1; fi
}
field() { # NAME: a number of the status
	sed -n "s/^ *\"$1\": \([0-9.]*\),*$/\1/p" /tmp/status
}
ask() {
	sluice status --socket /tmp/s --json > /tmp/status
}

threads=$(nproc)
sluiced --model /model/demo.gguf --socket /tmp/s --threads "$threads" --host-budget 100% > /tmp/log 2>&1 &
daemon=$!
sluice generate --socket /tmp/s --wait 60 --prompt-tokens '[1,2,3]' --max-tokens 24 --ignore-eog > /tmp/raw 2>&1
check $? "decodes ($(tail -1 /tmp/raw))"
i=0
while ask && [ "$(field experts_resident)" != "$(field experts_total)" ] && [ $i -lt 100 ]; do
	sleep 0.3
	i=$((i + 1))
done
[ "$(field experts_resident)" = 128 ]
check $? "all experts are in memory"

# memless: threads sit on two nodes, memory with processors is on one alone: nothing to deal
expected=$nodes
[ "$nodes" != memless ] || expected=0
[ "$(grep -c '"arena_bytes"' /tmp/status)" -eq "$expected" ]
check $? "experts are dealt to $expected nodes"
if [ "$nodes" != memless ]; then
[ "$(field local_bytes)" -gt 0 ] && [ "$(field remote_bytes)" -eq 0 ]
check $? "threads multiply what lies on their node: $(field local_bytes) bytes local, $(field remote_bytes) remote"

# What the kernel itself says: pages of memory that prefers node n are on node n.
awk '/ prefer[^ ]*:[0-9]/ {
	split($2, p, ":"); want = "N" p[2]
	for (i = 3; i <= NF; i++)
		if ($i ~ /^N[0-9]+=/) { split($i, a, "="); all += a[2]; per[a[1]] += a[2]; if (a[1] == want) right += a[2] }
}
END { for (k in per) printf "# %s %d pages\n", k, per[k]; printf "%d %d\n", right, all }' /proc/$daemon/numa_maps > /tmp/maps
grep '^#' /tmp/maps
right=$(tail -1 /tmp/maps | cut -d' ' -f1) all=$(tail -1 /tmp/maps | cut -d' ' -f2)
[ "$all" -gt 1000 ] && [ "$right" -eq "$all" ]
check $? "numa_maps: $right of $all bound pages lie on their node"
[ "$(grep -c '^# N' /tmp/maps)" -eq "$nodes" ]
check $? "numa_maps: pages on $nodes nodes"
fi

# Threads: each on one CPU of its own, as many on every node.
for t in /proc/$daemon/task/*; do
	case $(cat "$t/comm") in
	sluice-worker | sluice-engine) sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' "$t/status" ;;
	esac
done | sort -n > /tmp/cpus
[ "$(sort -u /tmp/cpus | grep -c '^[0-9]*$')" -eq "$threads" ]
check $? "compute threads sit on CPUs $(tr '\n' ' ' < /tmp/cpus)"

sluice generate --socket /tmp/s --chat --prompt 'What is the capital of France?' --max-tokens 16 > /tmp/answer 2>&1
grep -q Paris /tmp/answer
check $? "answers: $(head -1 /tmp/answer)"
kill $daemon
wait $daemon
check $? "stops cleanly"
echo "1..$n"
exit $failed
