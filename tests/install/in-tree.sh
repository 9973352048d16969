#!/bin/sh
# SPDX-License-Identifier: MIT
# In a clean root, in a copy of this tree at /src/sluice with nothing beside it: README's commands, then
# installing and removing. Run by run.sh.
cd /src/sluice
. tests/install/common.sh
[ ! -e ../shared ] || { echo "../shared is here"; exit 1; }
apt-get update -qq
apt-get install -y -qq make >/dev/null # what README takes as given

say "make run"
make run >/tmp/run.log 2>&1 || { tail -n 40 /tmp/run.log; exit 1; }
grep -q 'The capital of France is Paris' /tmp/run.log
if grep -n 'warning:' /tmp/run.log; then exit 1; fi
say "$(cc --version | head -n 1): no warning"
if [ -n "${FULL:-}" ]; then
	say "make test"
	make test >/tmp/test.log 2>&1 || { tail -n 100 /tmp/test.log; exit 1; }
	tail -n 1 /tmp/test.log
fi

say "make install, the example, make uninstall"
make setup-build+install+deb >/tmp/setup.log 2>&1 || { cat /tmp/setup.log; exit 1; }
apt-get install -y -qq pkg-config >/dev/null
listing >/tmp/before
make install >/tmp/install.log 2>&1 || { tail -n 40 /tmp/install.log; exit 1; }
build_example /usr/local/share/doc/sluice/examples/generate.c
(cd / && ask_daemon /src/sluice/models/demo-moe-q4_k_m.gguf /tmp/example)
[ "$(sluice version)" = "sluice $(scripts/version.sh)" ]
make uninstall
listing >/tmp/after
diff /tmp/before /tmp/after

say "make deb"
make deb >/tmp/deb.log 2>&1 || { tail -n 60 /tmp/deb.log; exit 1; }
lintian --fail-on error --allow-root build/deb/sluice_*.deb build/deb/libsluice*.deb
