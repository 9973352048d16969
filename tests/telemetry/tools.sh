#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
# usage: tools.sh
# Runs in the guest (see run.sh) with the module loaded: what it tells agrees with what numactl -H
# and lspci -vv print. TAP on stdout, exit 0 or 1.
failed=0
n=0
check() { # CONDITION-STATUS TEXT
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=1; fi
}
agrees() { # WHAT OURS THEIRS
	[ -n "$2" ] && [ "$2" = "$3" ]
	check $? "$1: $2 | $3"
}
link_of() { # BDF LnkCap|LnkSta: "speed width", as lspci has it
	lspci -vv -s "$1" 2>/dev/null |
		sed -n "s/.*$2:.*Speed \([0-9.]*\)GT\/s.*Width x\([0-9]*\).*/\1 \2/p" | head -1
}

sluice telemetry --json --interval 0.2 > /tmp/t
check $? "sluice telemetry"
[ "$(grep -cE '"(memory|distance|pci)": "module"' /tmp/t)" -eq 3 ]
check $? "memory, distances and links from the module"
numactl -H > /tmp/numactl
check $? "numactl -H"

# One line a node: id, processors, MiB, distances. One line a function: address, speed, width, both maxima.
awk -F'[:,] *' '
/"nodes": \[/ { part = "node" }
/"sockets": \[/ { part = "" }
/"pci": \[/ { part = "pci" }
/"disks": \[/ { part = "" }
{ key = $1; gsub(/[ "]/, "", key) }
part == "node" && key == "id" { id = $2; list = 0 }
part == "node" && key == "cpus" { cpus = $2 }
part == "node" && key == "total_bytes" { mib = int($2 / 1048576) }
part == "node" && key == "distance" { list = 1; text = ""; next }
part == "node" && list && /\]/ { list = 0; print "node", id, cpus, mib text }
part == "node" && list { text = text " " key }
part == "pci" && key == "bdf" { match($0, /[0-9a-f]+:[0-9a-f]+:[0-9a-f]+\.[0-9]/); bdf = substr($0, RSTART, RLENGTH) }
part == "pci" && key == "speed_gts" { speed = $2 }
part == "pci" && key == "width" { width = $2 }
part == "pci" && key == "max_speed_gts" { top = $2 }
part == "pci" && key == "max_width" { print "pci", bdf, speed + 0, width, top + 0, $2 }
' /tmp/t > /tmp/ours
awk '
/^node [0-9]+ cpus:/ { cpus[$2] = NF - 3 }
/^node [0-9]+ size:/ { mib[$2] = $4 }
/^ *[0-9]+:/ { id = $1 + 0; text = ""; for (i = 2; i <= NF; i++) text = text " " $i; print "node", id, cpus[id], mib[id] text }
' /tmp/numactl > /tmp/theirs
sed 's/^/# /' /tmp/numactl

nodes=$(grep -c '^node ' /tmp/theirs)
agrees "number of nodes" "$(grep -c '^node ' /tmp/ours)" "$nodes"
while read -r line; do
	id=$(echo "$line" | cut -d' ' -f2)
	agrees "node $id: id, processors, MiB, distances" "$(grep "^node $id " /tmp/ours)" "$line"
done < /tmp/theirs

functions=0
while read -r kind bdf speed width top lanes; do
	[ "$kind" = pci ] || continue
	[ "$width" != null ] || continue
	functions=$((functions + 1))
	agrees "$bdf: LnkSta, speed and width" "$speed $width" "$(link_of "$bdf" LnkSta)"
	# the maximum is that of both ends of the link
	port=$(basename "$(dirname "$(readlink -f "/sys/bus/pci/devices/$bdf")")")
	both=$(printf '%s\n' "$(link_of "$bdf" LnkCap)" "$(link_of "$port" LnkCap)" | awk '
		!n || $1 < s { s = $1 }
		!n || $2 < w { w = $2 }
		NF == 2 { n++ }
		END { if (n == 2) print s, w }')
	agrees "$bdf below $port: LnkCap of both ends" "$top $lanes" "$both"
done < /tmp/ours
[ "$functions" -ge 2 ]
check $? "$functions links compared"
echo "1..$n"
exit $failed
