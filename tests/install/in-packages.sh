#!/bin/sh
# SPDX-License-Identifier: MIT
# In a clean root with the packages in /packages: installs, runs and purges them. Run by run.sh.
. /packages/common.sh
cd /packages
apt-get update -qq

get() { # quiet unless it fails
	apt-get -y -qq --no-install-recommends "$@" >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; exit 1; }
}

# Libraries that only something of the root suggests are not wanted either: Debian 13's systemd suggests some of ours, which
# apt would keep.
clear_unneeded() {
	get -o APT::AutoRemove::SuggestsImportant=false -o APT::AutoRemove::RecommendsImportant=false autoremove --purge
}

# what makes the daemon's user: it is there on a real machine, and would leave files of its own here
get install systemd
clear_unneeded
say "apt install ./sluice*.deb"
listing >/tmp/before
get install ./sluice*.deb
ask_daemon /packages/demo-moe-q4_k_m.gguf
sluiced --config /etc/sluice/sluiced.conf -m /packages/demo-moe-q4_k_m.gguf --check-config >/dev/null
[ "$(stat -c %U:%G:%a /var/lib/sluice)" = sluiced:sluice:750 ]
[ "$(systemctl is-enabled sluiced.service)" = disabled ]
systemd-analyze verify --man=no sluiced.service sluiced@x.service sluiced.socket sluiced-http.socket sluice-hugepages.service 2>&1 |
	grep sluice && exit 1
[ "$(sluice version)" = "sluice $(dpkg-query -W -f '${Version}' sluice)" ]
dpkg -L sluice | grep -q '/man8/sluiced.8' # listed, although a minimal root may be told to drop manual pages
[ -s /usr/share/bash-completion/completions/sluice ]
[ -s /usr/share/zsh/vendor-completions/_sluice ]
say "purge: nothing is left"
get purge sluice
clear_unneeded
listing >/tmp/after
diff /tmp/before /tmp/after

say "all packages and the example"
get install ./*.deb gcc libc6-dev pkg-config
build_example /usr/share/doc/libsluice-dev/examples/generate.c
ldd /tmp/example | grep -q 'libsluice.so.0 => /'
ask_daemon /packages/demo-moe-q4_k_m.gguf /tmp/example
say "purge: nothing of ours is left"
get purge sluice libsluice0 libsluice-dev
if listing | grep sluice; then exit 1; fi
if dpkg -l 'sluice*' 'libsluice*' 2>/dev/null | grep '^[a-z]c'; then exit 1; fi
