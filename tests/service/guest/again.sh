# SPDX-License-Identifier: MIT
# shellcheck shell=dash
# The second boot of the same disk: what was enabled runs; rolled back, upgraded, purged, with nothing left.
# Sourced by guest.sh.
# shellcheck disable=SC2154,SC2317 # names of lib.sh; functions that ok calls
old=$(dpkg-deb -f /mnt/old/sluice_*.deb Version)
new=$(dpkg-deb -f /mnt/new/sluice_*.deb Version)
conf=/etc/sluice/sluiced.conf
all="sluiced.service sluiced@second.service sluiced.socket sluiced-http.socket sluice-hugepages.service"

at_boot() {
	for unit in $all; do
		is "$unit" active
	done
	systemctl --failed
	systemctl --failed | none sluice
	journalctl -q -b -o cat | none -i 'ordering cycle'
	[ "$(state sluice-hugepages.service ActiveEnterTimestampMonotonic)" -lt "$(state sluiced.service ExecMainStartTimestampMonotonic)" ]
	[ "$(cat /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages)" = 28 ]
	ask
	ask --socket /run/sluiced-second/sluice.sock
	web_chat
}
ok "at boot everything that was enabled is started, huge pages first" at_boot

change() { # VERSION FOLDER
	pid=$(state sluiced.service MainPID)
	second=$(state sluiced@second.service MainPID)
	mark
	install_debs "/mnt/$2"/*.deb
	[ "$(version)" = "$1" ]
	[ -z "$(dpkg --audit)" ]
	for unit in $all; do
		is "$unit" active
		[ "$(systemctl is-enabled "$unit")" = enabled ]
	done
	[ "$(state sluiced.service MainPID)" != "$pid" ]
	[ "$(state sluiced@second.service MainPID)" != "$second" ]
	logged sluiced.service "msg=\"sluiced\" version=$1"
	logged sluiced@second.service "msg=\"sluiced\" version=$1"
	md5sum -c /root/conf.md5
	[ "$(cat /var/lib/sluice/state)" = kept ]
	ask
	ask --socket /run/sluiced-second/sluice.sock
	web_chat
	systemctl --failed | none sluice
}
ok "roll back to $old: both services run it, configuration, state and what is enabled stay" change "$old" old
ok "and forward to $new" change "$new" new

keys() {
	echo 'a-long-enough-key-for-tests' >/etc/sluice/keys
	chown root:sluice /etc/sluice/keys
	chmod 640 /etc/sluice/keys
	printf 'http = systemd\napi-key-file = /etc/sluice/keys\n' >/etc/sluice/conf.d/http.conf
	systemctl restart sluiced.service
	no web /v1/models
	web_chat -H 'Authorization: Bearer a-long-enough-key-for-tests'
}
ok "keys for the socket that the manager hands over" keys

removed() {
	apt-get -y -q remove sluice
	for unit in $all; do
		no is "$unit" active
	done
	no_daemon
	[ -e $conf ]
	[ "$(cat /var/lib/sluice/state)" = kept ]
	install_debs /mnt/new/sluice_*.deb
	md5sum -c /root/conf.md5
	systemctl start sluiced.socket sluiced-http.socket sluiced@second.service
	ask
	ask --socket /run/sluiced-second/sluice.sock
}
ok "removed, all of it stops and configuration and state stay; installed again it goes on" removed

purged() {
	apt-get -y -q purge sluice libsluice0 libsluice-dev
	no_daemon
	no getent passwd sluiced
	no getent group sluice
	# gone for the manager too
	systemctl daemon-reload
	systemctl list-units --all --no-legend 'sluice*' | tee /tmp/units
	[ ! -s /tmp/units ]
	systemctl list-unit-files --no-legend 'sluice*' | tee /tmp/units
	[ ! -s /tmp/units ]
	find /run -path /run/systemd/propagate -prune -o -name '*sluice*' -print | tee /tmp/run
	[ ! -s /tmp/run ]
	dpkg-query -W -f '${binary:Package} ${db:Status-Status}\n' '*sluice*' 2>/dev/null | none -v not-installed
	listing >/tmp/after
	diff /root/before /tmp/after
}
ok "purged while it runs: no file, user, group, unit, socket or process is left" purged
