#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: on_gpu.sh COMMAND...: runs it where there is a GPU; says so and fails where there is none.
if [ ! -e /dev/nvidiactl ] && [ ! -e /dev/dxg ]; then
	echo "there is no NVIDIA GPU on this machine: nothing was run (make test-gpu-emu needs none)"
	exit 1
fi
exec "$@"
