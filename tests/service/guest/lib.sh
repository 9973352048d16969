# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2034 # what guest.sh reads
# Sourced by guest.sh: one line for each check, and what several of them do.
n=0
failed=
question='What is the capital of France?'

# One check: the commands of a function must all succeed; where one does not, its trace is shown. Times are the
# guest's clock.
ok() { # TEXT COMMAND...
	text=$1
	shift
	n=$((n + 1))
	began=$(cut -d. -f1 /proc/uptime)
	(
		set -ex
		"$@"
	) >/tmp/said 2>&1
	rc=$?
	took=$(($(cut -d. -f1 /proc/uptime) - began))
	if [ $rc -eq 0 ]; then
		echo "ok $n - $text ($took s)"
	else
		echo "not ok $n - $text ($took s)"
		tail -n 30 /tmp/said | sed 's/^/#   /'
		journalctl -q -b --no-pager -o short-monotonic -u 'sluice*' -n 20 | sed 's/^/#     /'
		failed=yes
	fi
}

within() { # SECONDS COMMAND...: until it succeeds
	end=$(($(cut -d. -f1 /proc/uptime) + $1))
	shift
	set +x
	until "$@" >/tmp/tried 2>&1; do
		[ "$(cut -d. -f1 /proc/uptime)" -lt $end ] || { cat /tmp/tried; return 1; }
		sleep 0.2
	done
}

# "! command" alone would not end a check (set -e).
no() { # COMMAND...: fails
	! "$@"
}

none() { # as grep(1), and finds nothing
	found=0
	grep "$@" || found=$?
	[ $found -eq 1 ]
}

no_daemon() {
	cat /proc/[0-9]*/comm 2>/dev/null | none -x sluiced
}

booted() {
	case $(systemctl is-system-running) in running | degraded) ;; *) return 1 ;; esac
}

state() { # UNIT PROPERTY
	systemctl show -P "$2" "$1"
}

is() { # UNIT ACTIVE-STATE
	[ "$(state "$1" ActiveState)" = "$2" ]
}

# A user who may use the socket asks.
ask() { # [OPTION...]
	timeout 300 runuser -u alice -- sluice generate --wait 120 --quiet --chat --max-tokens 12 --prompt "$question" "$@" >/tmp/answer
	grep Paris /tmp/answer
}

web() { # PATH [OPTION...]
	path=$1
	shift
	curl -sS --fail --max-time 300 "http://127.0.0.1:8080$path" "$@"
}

web_chat() { # [OPTION...]
	web /v1/chat/completions -H 'Content-Type: application/json' "$@" -d \
		"{\"max_tokens\": 12, \"temperature\": 0, \"messages\": [{\"role\": \"user\", \"content\": \"$question\"}]}" | grep Paris
}

# Lines of a unit's journal since the mark, or since the boot.
mark() {
	journalctl -q -n 1 --show-cursor -o cat | sed -n 's/^-- cursor: //p' >/tmp/mark
}
lines() { # UNIT [FIELD=VALUE...]
	journalctl -q -u "$@" -o cat --after-cursor="$(cat /tmp/mark)"
}
logged() { # UNIT REGULAR-EXPRESSION
	lines "$1" | grep -E "$2"
}

install_debs() { # [OPTION...] FILE...
	apt-get -y -q --no-install-recommends --allow-downgrades \
		-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install "$@"
}

version() {
	dpkg-query -W -f '${Version}' sluice
}
