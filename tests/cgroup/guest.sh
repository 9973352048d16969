#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
# usage: cgroup.sh memory|cpu|user|huge
# Runs in the guest (see run.sh). TAP on stdout, exit 0 or 1.
failed=0
n=0
top=/sys/fs/cgroup
check() { # CONDITION-STATUS TEXT
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=1; fi
}
field() { # NAME: a number or text of the status, those of its limits first
	sed -n "s/^ *\"$1\": \"*\([^\",]*\)\"*,*$/\1/p" /tmp/limits /tmp/status | head -1
}
limits() {
	sed -n '/"limits": {/,/}/p' /tmp/status > /tmp/limits
}
group() { # NAME FILE VALUE: makes it where it is not there
	mkdir -p "$top/$1"
	echo "$3" > "$top/$1/$2"
	[ "$(cat "$top/$1/$2")" = "$3" ]
	check $? "$1: $2 is $3"
}
start() { # GROUP ARGS...: a daemon in it; its status in /tmp/status
	in=$1
	shift
	rm -f /tmp/s
	sh -c 'echo $$ > "$0/cgroup.procs" && exec "$@"' "$top/$in" \
		sluiced --model /model/demo.gguf --socket /tmp/s "$@" > /tmp/log 2>&1 &
	daemon=$!
	sluice generate --socket /tmp/s --wait 60 --chat --prompt 'What is the capital of France?' \
		--max-tokens 12 > /tmp/answer 2> /tmp/figures
	grep -q Paris /tmp/answer
	check $? "$in: answers: $(head -1 /tmp/answer)"
	sluice status --socket /tmp/s --json > /tmp/status
	limits
}
stop() {
	kill $daemon
	wait $daemon
	check $? "stops cleanly"
}
is() { # NAME VALUE
	[ "$(field "$1")" = "$2" ]
	check $? "$1 is $(field "$1"), wanted $2"
}
doctor() { # GROUP: what a process there may use, in /tmp/status
	sh -c 'echo $$ > "$0/cgroup.procs" && exec sluice doctor --no-memory --json' "$top/$1" > /tmp/status
	limits
}
refused() { # GROUP TEXT ARGS...
	in=$1 text=$2
	shift 2
	sh -c 'echo $$ > "$0/cgroup.procs" && exec "$@"' "$top/$in" \
		timeout 20 sluiced --model /model/demo.gguf --socket /tmp/s "$@" > /tmp/log 2>&1
	[ $? -eq 1 ] && tail -1 /tmp/log | grep -q -- "$text" && tail -1 /tmp/log | grep -q "cgroup $top/"
	check $? "$in: refused: $(tail -1 /tmp/log | sed 's/.*msg=//')"
}
kills() { # GROUP
	sed -n 's/^oom_kill //p' "$top/$1/memory.events"
}
words() { # COUNT: a prompt of tokens
	awk -v n="$1" 'BEGIN { printf "["; for (i = 0; i < n; i++) printf "%s%d", i ? "," : "", i * 7 % 2000; print "]" }'
}

grep -q " $top cgroup2 " /proc/mounts || mount -t cgroup2 none $top
check $? "version 2 is mounted"
for c in memory cpu hugetlb; do echo "+$c" > $top/cgroup.subtree_control; done

case $1 in
memory)
	# a limit above the daemon's own group, which has none
	group pod memory.max 46137344 # 44 MiB
	echo +memory > $top/pod/cgroup.subtree_control
	mkdir -p $top/pod/box
	start pod/box --threads 1
	is memory_bytes 46137344
	is memory_from "cgroup $top/pod"
	[ "$(field budget_bytes)" -gt 1000000 ] && [ "$(field budget_bytes)" -lt 20000000 ]
	check $? "the budget fits: $(field budget_bytes) bytes"
	is parallel 1
	grep -q 'KV cache of 4 sequences' /tmp/status
	check $? "the status says that the default context is lowered"
	stop
	start pod/box --threads 1 --ctx 128 --parallel 1
	answered=0
	for _ in 1 2 3; do
		sluice generate --socket /tmp/s --prompt-tokens "$(words 124)" --max-tokens 4 --ignore-eog > /tmp/full 2>&1 &&
			answered=$((answered + 1))
	done
	[ $answered -eq 3 ]
	check $? "$answered of 3 full contexts are answered: $(tail -1 /tmp/full)"
	[ "$(kills pod)" = 0 ]
	check $? "nothing was killed: $(kills pod)"
	stop
	refused pod/box 'KV cache.*context' --ctx 262144
	group pod memory.max max
	group pod/box memory.high 37748736 # 36 MiB: a limit too
	doctor pod/box
	is memory_from "cgroup $top/pod/box"
	free=$(field memory_free_bytes)
	[ "$free" -gt 30000000 ] && [ "$free" -lt 37748736 ]
	check $? "$free bytes of 36 MiB are free"
	;;
cpu)
	group quota cpu.max '100000 100000'
	start quota --ctx 512
	is threads 1
	is cpus_from "quota of cgroup $top/quota"
	stop
	echo +cpu > $top/quota/cgroup.subtree_control
	mkdir -p $top/quota/in
	for row in '250000/max/2' '250000/50000/1' 'max/399000/3' 'max/max/4' '800000/max/4'; do
		echo "${row%%/*} 100000" > $top/quota/cpu.max
		inner=${row#*/}
		echo "${inner%/*} 100000" > $top/quota/in/cpu.max
		doctor quota/in
		[ "$(field cpus)" = "${row##*/}" ]
		check $? "quota $row: $(field cpus) CPUs"
	done
	;;
user)
	mkdir -p /etc
	echo 'u:x:1000:1000::/:/bin/sh' >> /etc/passwd
	group user memory.max 67108864
	echo '100000 100000' > $top/user/cpu.max
	sh -c 'echo $$ > "$0/cgroup.procs" && exec su u -c "sluice doctor --no-memory --json"' $top/user > /tmp/status
	check $? "doctor runs as another user"
	limits
	is memory_from "cgroup $top/user"
	is cpus_from "quota of cgroup $top/user"
	;;
huge)
	echo 40 > /proc/sys/vm/nr_hugepages
	[ "$(cat /proc/sys/vm/nr_hugepages)" = 40 ]
	check $? "40 huge pages are reserved"
	group huge hugetlb.2MB.max 4194304
	start huge --threads 1 --ctx 512 --io pread
	[ "$(field arena)" = thp ] && grep -q 'control group' /tmp/status
	check $? "4 MiB of huge pages are too few: arena $(field arena), the status names the control group"
	stop
	group huge hugetlb.2MB.max max
	start huge --threads 1 --ctx 512 --io pread
	is arena hugetlb
	stop
	test_arena
	rc=$?
	check $rc "the arena's own test under a hugetlb group"
	;;
esac
echo "1..$n"
exit $failed
