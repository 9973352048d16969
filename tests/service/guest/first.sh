# SPDX-License-Identifier: MIT
# shellcheck shell=dash
# The first boot: the older packages installed, the service configured, started by its sockets, upgraded while it
# runs, looked at, hurt, stopped. Sourced by guest.sh; what is enabled here, the next boot must find started.
# shellcheck disable=SC2154,SC2317 # names of lib.sh; functions that ok calls
old=$(dpkg-deb -f /mnt/old/sluice_*.deb Version)
new=$(dpkg-deb -f /mnt/new/sluice_*.deb Version)
conf=/etc/sluice/sluiced.conf
units="sluiced.service sluiced.socket sluiced-http.socket sluice-hugepages.service"
useradd --create-home alice
useradd --create-home bob
mkdir -p /srv/models
cp /mnt/demo-moe-q4_k_m.gguf /srv/models/demo.gguf
listing >/root/before

# ---- install
installs() {
	install_debs /mnt/old/*.deb
	[ "$(version)" = "$old" ]
	[ "$(sluice version)" = "sluice $old" ]
	[ -z "$(dpkg --audit)" ]
}
ok "packages of $old install with apt and no network" installs

layout() {
	[ "$(id -gn sluiced)" = sluice ]
	[ "$(getent passwd sluiced | cut -d: -f6-)" = /var/lib/sluice:/usr/sbin/nologin ]
	[ "$(stat -c %U:%G:%a /var/lib/sluice)" = sluiced:sluice:750 ]
	[ "$(stat -c %U:%G:%a $conf)" = root:root:644 ]
	[ -d /etc/sluice/conf.d ]
	# shellcheck disable=SC2086
	systemctl cat $units sluiced@.service
	for unit in $units; do
		[ "$(systemctl is-enabled "$unit")" = disabled ]
		is "$unit" inactive
	done
	systemctl --failed | none sluice
}
ok "user, group, directories, configuration and units are there, nothing is enabled or runs" layout

verified() {
	# shellcheck disable=SC2086
	systemd-analyze verify --man=no $units sluiced@x.service default.target 2>&1 | tee /tmp/verify
	none -E 'sluice|cycle' /tmp/verify
}
ok "systemd-analyze verify finds nothing" verified

without_model() {
	mark
	no systemctl start sluiced.service
	[ "$(state sluiced.service ExecMainStatus)" = 2 ]
	sleep 4
	[ "$(state sluiced.service NRestarts)" = 0 ]
	is sluiced.service failed
	logged sluiced.service 'level=error .*model'
	systemctl reset-failed sluiced.service
	systemctl stop sluiced.socket
}
ok "without a model it ends with status 2, says why, and is not tried again" without_model

# ---- sockets
cat >>$conf <<'CONF'
model = /srv/models/demo.gguf
ctx = 2048
host-budget = 24M
CONF
md5sum $conf >/root/conf.md5
usermod -aG sluice alice

sockets_alone() {
	runuser -u sluiced -- sluiced --config $conf --check-config
	systemctl enable --now sluiced.socket sluiced-http.socket
	is sluiced.socket active
	is sluiced-http.socket active
	is sluiced.service inactive
	[ "$(stat -c %U:%G:%a /run/sluiced/sluice.sock)" = root:sluice:660 ]
}
ok "both sockets listen before there is a daemon" sockets_alone

native() {
	ask
	is sluiced.service active
	no runuser -u bob -- sluice generate --wait 0 --quiet --chat --prompt "$question" 2>/tmp/refused
	cat /tmp/refused
	grep -i 'permission' /tmp/refused
	[ "$(stat -c %U:%G:%a /run/sluiced)" = sluiced:sluice:750 ]
}
ok "a client of the group on the native socket starts the daemon, any other is refused" native

http() {
	systemctl stop sluiced.service
	is sluiced.service inactive
	is sluiced.socket active
	is sluiced-http.socket active
	web /v1/models | grep demo
	is sluiced.service active
	web_chat
	ask
}
ok "a request to HTTP starts it too: models, a chat, and both sockets are served" http

# ---- upgrade while it runs
upgrade() {
	echo kept >/var/lib/sluice/state
	chown sluiced /var/lib/sluice/state
	pid=$(state sluiced.service MainPID)
	rm -f /tmp/asked
	# somebody asks all the while: the sockets never stop listening
	while [ ! -e /tmp/upgraded ]; do
		runuser -u alice -- sluice tokenize --wait 0 'a b c' >>/tmp/asked 2>&1 || echo "failed: $?" >>/tmp/asked
		sleep 2
	done &
	install_debs /mnt/new/*.deb
	touch /tmp/upgraded
	wait
	[ "$(version)" = "$new" ]
	[ -z "$(dpkg --audit)" ]
	is sluiced.service active
	is sluiced.socket active
	is sluiced-http.socket active
	[ "$(state sluiced.service MainPID)" != "$pid" ]
	logged sluiced.service "msg=\"sluiced\" version=$new"
	md5sum -c /root/conf.md5
	[ -e $conf.dpkg-dist ]
	[ "$(cat /var/lib/sluice/state)" = kept ]
	ask
	web_chat
	sort /tmp/asked | uniq -c
	none -iE 'refused|no such file|cannot connect|no daemon' /tmp/asked
}
mark
ok "an upgrade to $new restarts what runs and keeps configuration and state, no client is refused" upgrade
rm -f $conf.dpkg-dist

# ---- what it looks like
ready() {
	systemctl stop sluiced.service
	systemctl start --no-block sluiced.service
	set +x
	now=
	until [ "$now" = active ]; do
		now=$(state sluiced.service ActiveState)
		echo "$now"
	done >/tmp/states
	set -x
	uniq -c /tmp/states
	grep -q '^activating' /tmp/states
	none -vE '^(inactive|activating|active)$' /tmp/states
	said=$(journalctl -q -u sluiced.service -o json --output-fields=MESSAGE,_SOURCE_REALTIME_TIMESTAMP | grep 'msg=.*ready' | tail -n 1 |
		sed 's/.*"__MONOTONIC_TIMESTAMP":"\([0-9]*\)".*/\1/')
	active=$(state sluiced.service ActiveEnterTimestampMonotonic)
	# the line is written before the manager is told, and read by the journal a moment later
	[ $((said - active)) -lt 500000 ]
	systemctl status --no-pager sluiced.service | tee /tmp/status
	grep -q 'Status: "ready"' /tmp/status
}
ok "active only when it is ready, and says so" ready

rights() {
	pid=$(state sluiced.service MainPID)
	grep -E "^Uid:[[:space:]]*$(id -u sluiced)[[:space:]]" "/proc/$pid/status"
	grep -E '^(CapEff|NoNewPrivs|Seccomp):' "/proc/$pid/status"
	[ "$(sed -n 's/^CapEff:[[:space:]]*//p' "/proc/$pid/status")" = 0000004000804000 ]
	grep -q 'Max locked memory *unlimited' "/proc/$pid/limits"
	systemd-analyze --no-pager security sluiced.service | tail -n 1 | tee /tmp/security
	awk '{ for (i = 1; i < NF; i++) if ($i == "sluiced.service:") found = $(i + 1) } END { exit !(found > 0 && found <= 3.0) }' /tmp/security
	# nothing that it needs is forbidden: reads, locked buffers, counters
	sluice status --json | tee /tmp/status
	sed -n '/"fallbacks"/,/\]/p' /tmp/status
	grep -q '"io": "uring' /tmp/status
}
ok "it runs as its user with three capabilities, exposure at most 3.0, io_uring in use" rights

journal() {
	journalctl -q -b -o cat _COMM=sluiced >/tmp/lines
	wc -l /tmp/lines
	none -vE '^level=(error|warn|notice|info|debug) msg=' /tmp/lines
	journalctl -q -b -o cat -u sluiced.service PRIORITY=5 | grep 'level=notice msg="ready"'
	journalctl -q -b -o cat -u sluiced.service PRIORITY=3 | grep 'level=error'
	journalctl -q -b -o cat _COMM=sluiced PRIORITY=6 | none -v 'level=info'
	journalctl -q -b -o cat _COMM=sluiced | none France
}
ok "its lines in the journal are logfmt with priorities, without prompts" journal

# ---- reload
reload() {
	mark
	pid=$(state sluiced.service MainPID)
	sed -i 's/^ctx = .*/ctx = 1024/' $conf
	echo 'log-level = debug' >>$conf
	systemctl reload sluiced.service
	within 20 logged sluiced.service 'msg="configuration read again"'
	logged sluiced.service 'msg="reloaded" option=--log-level .*debug'
	logged sluiced.service 'msg="not reloaded" option=--ctx'
	is sluiced.service active
	[ "$(state sluiced.service MainPID)" = "$pid" ]
	web_chat
	logged sluiced.service '^level=debug'
	echo 'nonsense = 1' >>$conf
	mark
	systemctl reload sluiced.service
	within 20 logged sluiced.service 'msg="reload failed".*nonsense'
	is sluiced.service active
	sed -i '/^nonsense/d; /^log-level/d; s/^ctx = .*/ctx = 2048/' $conf
	systemctl reload sluiced.service
	within 20 logged sluiced.service 'msg="configuration read again"'
	md5sum -c /root/conf.md5
	ask
}
ok "reload: what can change does and is said, the rest is named, a fault changes nothing" reload

# ---- warm restart: the manager keeps the memory
warm_again() { # after a restart of the daemon
	within 60 is sluiced.service active
	within 20 logged sluiced.service 'msg="warm start"'
	sluice status | grep -E '^start +warm'
	ask
	web_chat
}
warm() {
	[ "$(state sluiced.service NFileDescriptorStore)" = 3 ]
	mark
	systemctl restart sluiced.service
	warm_again
	mark
	kill -KILL "$(state sluiced.service MainPID)"
	sleep 1
	warm_again
	systemctl stop sluiced.service
	[ "$(state sluiced.service NFileDescriptorStore)" = 0 ]
	mark
	systemctl start sluiced.service
	lines sluiced.service | none 'msg="warm start"'
	[ "$(state sluiced.service NFileDescriptorStore)" = 3 ]
}
ok "a restart, and one after kill -9, takes over the memory that the manager keeps; a stop gives it back" warm

# ---- hurt
killed() {
	pid=$(state sluiced.service MainPID)
	restarts=$(state sluiced.service NRestarts)
	kill -KILL "$pid"
	within 60 restarted "$restarts"
	[ "$(state sluiced.service MainPID)" != "$pid" ]
	ask
	pid=$(state sluiced.service MainPID)
	kill -KILL "$pid"
	ask # waits in the socket, which starts the daemon at once
	[ "$(state sluiced.service MainPID)" != "$pid" ]
	web_chat
}
restarted() {
	[ "$(state sluiced.service NRestarts)" = $(($1 + 1)) ] && is sluiced.service active
}
ok "kill -9: it is started again, who asks meanwhile waits" killed

frozen() { # SECONDS
	mark
	pid=$(state sluiced.service MainPID)
	restarts=$(state sluiced.service NRestarts)
	[ "$(state sluiced.service WatchdogUSec)" = "$1" ]
	kill -STOP "$pid"
	within 120 restarted "$restarts"
	logged sluiced.service 'Watchdog timeout'
	[ "$(state sluiced.service MainPID)" != "$pid" ]
	ask
	web_chat
}
mkdir -p /run/systemd/system/sluiced.service.d
printf '[Service]\nWatchdogSec=6\n' >/run/systemd/system/sluiced.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart sluiced.service
ok "watchdog of 6 s: a daemon that stands still is killed and started again" frozen 6s
idle() {
	restarts=$(state sluiced.service NRestarts)
	sleep 14
	[ "$(state sluiced.service NRestarts)" = "$restarts" ]
	is sluiced.service active
}
ok "watchdog of 6 s: one that idles, or answers, lives on" idle
rm -r /run/systemd/system/sluiced.service.d
systemctl daemon-reload
systemctl restart sluiced.service
ok "watchdog as shipped: killed after a minute and started again" frozen 1min

drains() {
	mark
	web /v1/chat/completions -N -H 'Content-Type: application/json' -d "{\"max_tokens\": 1800, \"temperature\": 0, \"stream\": true,
		\"ignore_eos\": true, \"messages\": [{\"role\": \"user\", \"content\": \"$question\"}]}" >/tmp/stream 2>&1 &
	client=$!
	within 60 grep -q '^data: .*content' /tmp/stream
	began=$(date +%s%N)
	systemctl stop sluiced.service
	took=$((($(date +%s%N) - began) / 1000000))
	wait $client || true
	tail -n 3 /tmp/stream
	echo "stopped in $took ms"
	[ $took -ge 3000 ]  # drain=5 seconds were given
	[ $took -lt 30000 ]
	is sluiced.service inactive
	[ "$(state sluiced.service Result)" = success ]
	logged sluiced.service 'msg="stopped"'
	is sluiced.socket active
}
ok "stop: an open request has its time, then all ends by itself" drains

# A client on the socket of a daemon that cannot start: the manager gives up, and so does the socket.
hopeless() {
	echo 'nonsense = 1' >/etc/sluice/conf.d/wrong.conf
	no ask
	within 60 is sluiced.socket failed
	rm /etc/sluice/conf.d/wrong.conf
	systemctl reset-failed sluiced.service
	systemctl start sluiced.service # brings its socket back
	is sluiced.socket active
	is sluiced.service active
	ask
	systemctl stop sluiced.service
	systemctl start sluiced-http.socket sluiced.service
	web_chat
}
ok "a fault in the configuration beside waiting clients ends; starting the service brings its socket back" hopeless

# ---- huge pages, a second model
pages() { # NODE
	cat "/sys/devices/system/node/node$1/hugepages/hugepages-2048kB/nr_hugepages"
}
huge() {
	printf '# node pages\n0 20\n1 28\n' >/etc/sluice/hugepages
	[ "$(pages 0)" = 0 ]
	systemctl stop sluiced.service
	ask
	is sluice-hugepages.service active
	[ "$(pages 0)" = 20 ]
	[ "$(pages 1)" = 28 ]
	journalctl -q -u sluice-hugepages.service -o cat | grep 'node 1: 28 of 28'
	sluice status --json >/tmp/status
	grep '"arena": "hugetlb' /tmp/status
}
ok "huge pages are reserved node by node before the daemon starts, and it uses them" huge

second() {
	mkdir /etc/sluice/second
	printf 'model = /srv/models/demo.gguf\nctx = 512\nhost-budget = 8M\nthreads = 1\n' >/etc/sluice/second/sluiced.conf
	systemctl enable --now sluiced@second.service
	is sluiced@second.service active
	is sluiced.service active
	ask --socket /run/sluiced-second/sluice.sock
	ask
	[ "$(stat -c %U:%G:%a /run/sluiced-second/sluice.sock)" = sluiced:sluice:660 ]
	[ "$(stat -c %U /var/lib/sluice/second)" = sluiced ]
	systemctl reload sluiced@second.service
	systemctl enable sluiced.service sluice-hugepages.service
}
ok "sluiced@NAME serves a second model beside it" second
