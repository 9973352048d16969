#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
# usage: telemetry.sh without|with|gone
# Runs in the guest (see run.sh). TAP on stdout, exit 0 or 1.
failed=0
n=0
check() { # CONDITION-STATUS TEXT
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=1; fi
}
source_of() { # GROUP FILE: "module", "sysfs" or null
	sed -n "/\"sources\"/,/}/s/^ *\"$1\": \"*\([a-z]*\)\"*,*$/\1/p" "$2"
}
is() { # GROUP SOURCE FILE
	[ "$(source_of "$1" "$3")" = "$2" ]
	check $? "$1 from $(source_of "$1" "$3"), wanted $2"
}
total_of() { # the nodes' total_bytes in $1, one a line
	sed -n 's/^ *"total_bytes": \([0-9]*\),$/\1/p' "$1"
}
totals_of_sysfs() {
	# shellcheck disable=SC2012 # sorted by number
	for d in $(ls -d /sys/devices/system/node/node[0-9]* | sort -V); do
		awk '/MemTotal/ { printf "%d\n", $4 * 1024 }' "$d/meminfo"
	done
}
free_of_sysfs() {
	cat /sys/devices/system/node/node*/meminfo | awk '/MemFree/ { s += $4 } END { printf "%d\n", s / 1024 }'
}
free_of() {
	sed -n 's/^ *"free_bytes": \([0-9]*\),$/\1/p' "$1" | awk '{ s += $1 } END { printf "%d\n", s / 1048576 }'
}

case $1 in
without)
	sluice telemetry --json --interval 0.2 > /tmp/t
	check $? "runs without the module"
	is memory sysfs /tmp/t
	is distance sysfs /tmp/t
	grep -q 'sluice.ko is not loaded' /tmp/t
	check $? "says so"
	;;
with)
	insmod /sluice.ko
	check $? "the module loads"
	before=$(free_of_sysfs)
	sluice telemetry --json --interval 0.5 > /tmp/t
	check $? "runs with the module"
	after=$(free_of_sysfs)
	is memory module /tmp/t
	is distance module /tmp/t
	is pci module /tmp/t
	is hugepages sysfs /tmp/t
	[ "$(total_of /tmp/t)" = "$(totals_of_sysfs)" ]
	check $? "total bytes are those of sysfs: $(total_of /tmp/t | tr '\n' ' ')"
	free=$(free_of /tmp/t)
	[ "$free" -ge $((before < after ? before - 16 : after - 16)) ] && [ "$free" -le $((before > after ? before + 16 : after + 16)) ]
	check $? "free memory $free MiB lies between $before and $after"
	sluice telemetry --json --interval 0.2 --no-module > /tmp/sys
	is memory sysfs /tmp/sys
	[ "$(sed -n '/"distance": \[/,/\]/p' /tmp/t)" = "$(sed -n '/"distance": \[/,/\]/p' /tmp/sys)" ]
	check $? "distances agree with sysfs"
	[ "$(grep -c '"class": "0x0200' /tmp/t)" -eq 2 ]
	check $? "both network functions are watched"
	for field in bdf node class speed_gts width max_speed_gts max_width bandwidth_bytes_per_s limit_bdf degraded; do
		a=$(sed -n "/\"pci\"/,\$s/^ *\"$field\": //p" /tmp/t)
		b=$(sed -n "/\"pci\"/,\$s/^ *\"$field\": //p" /tmp/sys)
		[ "$a" = "$b" ]
		check $? "pci $field agrees with sysfs: $(echo "$a" | tr '\n' ' ') | $(echo "$b" | tr '\n' ' ')"
	done
	! grep -q 'sluice.ko' /tmp/t
	check $? "nothing to say of the module"
	# Any user that may open the device reads the same; who may not, is told.
	mkdir -p /etc
	echo 'u:x:1000:1000::/:/bin/sh' >> /etc/passwd
	su u -c 'sluice telemetry --json --interval 0.2' > /tmp/u
	is memory sysfs /tmp/u
	grep -q 'group sluice may read it' /tmp/u
	check $? "a user without access is told so"
	chmod 444 /dev/sluice
	su u -c 'sluice telemetry --json --interval 0.2' > /tmp/u
	is memory module /tmp/u
	# A watch lives through many samples; the text is for people.
	sluice telemetry --watch --json --interval 0.05 --count 10 > /tmp/w
	[ "$(wc -l < /tmp/w)" -eq 10 ] && ! grep -v '"memory": *"module"' /tmp/w
	check $? "ten snapshots, all from the module"
	sluice telemetry --interval 0.1 > /tmp/text && grep -q 'memory  *module' /tmp/text
	check $? "as text"
	sed -n '/NODE/,/^$/p' /tmp/text | sed 's/^/# /'
	;;
gone)
	rmmod sluice
	check $? "the module unloads after its readers"
	sluice telemetry --json --interval 0.2 > /tmp/t
	check $? "runs without it again"
	is memory sysfs /tmp/t
	;;
esac
echo "1..$n"
exit $failed
