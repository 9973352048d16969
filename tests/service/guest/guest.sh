#!/bin/sh
# SPDX-License-Identifier: MIT
# What the guest runs (rig.service of root.sh, from the second disk, /mnt): the checks of the boot that the kernel's
# command line names, in TAP on the second serial line; then it powers off.
# shellcheck disable=SC1090,SC1091,SC2154 # as they lie on the second disk
. /mnt/common.sh
set +eu
. /mnt/lib.sh
stty -F /dev/ttyS1 raw -echo
boot=$(sed -n 's/.*rig\.boot=\([a-z]*\).*/\1/p' /proc/cmdline)
echo "# $(uname -r), $(nproc) processors, $(systemctl --version | head -n 1), boot $boot"
within 120 booted
. "/mnt/$boot.sh"
echo "1..$n"
[ -z "$failed" ] || journalctl -b --no-pager -o short-monotonic | grep -v 'kernel:' | tail -n 150 | sed 's/^/# /'
echo "# rig: done"
sync
systemctl --no-block start poweroff.target # logind, which poweroff asks, is masked
