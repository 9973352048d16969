# SPDX-License-Identifier: MIT
# Sourced in a clean root: what both scripts that run there need.
set -eu
say() { echo "    $*"; }

# Every file and directory that an installation could have touched.
listing() {
	find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /src -o -path /packages \
		-o -path /root -o -path /var/cache -o -path /var/log -o -path /var/lib/apt -o -path /var/lib/dpkg \
		-o -path /etc/ld.so.cache -o -path '/etc/*-' \) -prune -o -print | sort
}

# Asks a daemon that was just started in the way README says; stops it. $1: the model
ask_daemon() {
	sluiced -m "$1" 2>/tmp/sluiced.log &
	daemon=$!
	sluice generate --wait 30 --quiet --chat --prompt 'What is the capital of France?' >/tmp/answer ||
		{ cat /tmp/sluiced.log; return 1; }
	grep -q Paris /tmp/answer || { cat /tmp/answer /tmp/sluiced.log; return 1; }
	sluice status >/dev/null
	if [ -n "${2:-}" ]; then
		"$2" 'What is the capital of France?' >/tmp/answer
		grep -q Paris /tmp/answer || { cat /tmp/answer; return 1; }
	fi
	kill $daemon
	wait $daemon
}

build_example() { # source
	# shellcheck disable=SC2046
	cc "$1" -o /tmp/example $(pkg-config --cflags --libs sluice)
}
