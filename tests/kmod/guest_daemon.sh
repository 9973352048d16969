#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
# Runs in the guest (daemon.sh packs it): the real daemon decodes the bundled model, with the module
# loaded when the first argument is `module`. Its arena must lie on every node, as move_pages() tells,
# and its answer is kept for comparison in /tmp/answer.NAME.
name=$1
fail() {
	echo "not ok 1 - $*"
	sed 's/^/# /' /tmp/sluiced.log
	echo "1..1"
	[ -z "${pid:-}" ] || { kill "$pid" && wait "$pid"; }
	exit 1
}

mount | grep -q /dev/shm || { mkdir -p /dev/shm; mount -t tmpfs tmpfs /dev/shm; }
mkdir -p /run /var/tmp
for pool in /sys/devices/system/node/node*/hugepages/hugepages-2048kB/nr_hugepages; do
	echo 24 > "$pool"
done
[ "$name" != module ] || insmod /sluice.ko || fail "insmod"
/usr/bin/sluiced --model /model.gguf --socket /run/sluice.sock --host-budget 40M --ctx 512 \
	2> /tmp/sluiced.log &
pid=$!
tries=0
while [ ! -S /run/sluice.sock ]; do
	tries=$((tries + 1))
	[ $tries -lt 300 ] && kill -0 $pid || fail "sluiced did not start"
	sleep 0.2
done
/usr/bin/sluice generate --socket /run/sluice.sock --chat --max-tokens 24 \
	--prompt "What is the capital of France?" > "/tmp/answer.$name" 2> /tmp/generate.log ||
	fail "generate: $(cat /tmp/generate.log)"
/usr/bin/sluice status --socket /run/sluice.sock > /tmp/status 2>&1 || fail "status"
sed 's/^/# /' /tmp/status
sed 's/^/# answer: /' "/tmp/answer.$name"
grep -iE 'telemetry|module|numa|arena' /tmp/sluiced.log | sed 's/^/# log: /'
# Equal nodes, but few: the bundled model's share of a node is less than two huge pages, so they
# cannot all lie right. Each node must hold some, and most bytes be read where they lie.
pages_of $pid sluice-arena 4 || fail "the arena is not on every node"
local=$(sed -n 's/^locality *\([0-9]*\).*/\1/p' /tmp/status)
[ "${local:-0}" -ge 60 ] || fail "only ${local:-no} % of expert bytes are read on their node"
if [ "$name" = module ]; then
	[ "$(cat /sys/module/sluice/refcnt)" -gt 0 ] || fail "the daemon does not use the module"
	/usr/bin/sluice telemetry --json > /tmp/telemetry 2>&1 || fail "telemetry: $(cat /tmp/telemetry)"
	grep -o '"sources": *{[^}]*}' /tmp/telemetry | tr -d '\n ' | sed 's/^/# /'
	echo
	grep -q '"module"' /tmp/telemetry || fail "sluice telemetry does not take the module"
fi
kill $pid
wait $pid
[ -s "/tmp/answer.$name" ] || fail "no answer"
if [ -f /tmp/answer.module ] && [ -f /tmp/answer.plain ]; then
	cmp /tmp/answer.module /tmp/answer.plain || fail "the answers differ"
fi
rm -f /run/sluice.sock
exit 0
