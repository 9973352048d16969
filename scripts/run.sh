#!/bin/sh
# SPDX-License-Identifier: MIT
# The main job on real input: starts the daemon on a model, asks it one thing, shows the answer and
# the numbers, stops it. usage: run.sh BUILD_DIR MODEL PROMPT [chat|raw]
set -eu
build=$1 model=$2 prompt=$3 form=${4:-chat}
case $form in
chat | raw) ;;
*)
	echo "FORM=$form: chat or raw is needed" >&2
	exit 2
	;;
esac
dir=$(mktemp -d)
export SLUICE_SOCKET="$dir/sluice.sock" # where the daemon listens and the command looks
cleanup() {
	[ -z "${pid:-}" ] || { kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; } || true
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

echo "model   $model"
"$build/sluiced" -m "$model" ${SLUICED_ARGS:-} 2>"$dir/log" &
pid=$!
tries=0
while [ ! -S "$SLUICE_SOCKET" ]; do
	if ! kill -0 "$pid" 2>/dev/null || [ $tries -ge 600 ]; then
		echo "sluiced did not start:" >&2
		cat "$dir/log" >&2
		exit 1
	fi
	tries=$((tries + 1))
	sleep 0.05
done
echo "prompt  $prompt"
echo
[ "$form" = raw ] || chat=--chat
"$build/sluice" generate ${chat:-} --prompt "$prompt" --max-tokens "${MAX_TOKENS:-256}"
echo
"$build/sluice" status
