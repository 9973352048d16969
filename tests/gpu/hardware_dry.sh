#!/bin/sh
# SPDX-License-Identifier: MIT
# hardware.sh's parts where there is no GPU: programs of the shim in place of the GPU's, a daemon of a few lines
# for part d. What is proved: that each part runs, counts and judges. Argument: build directory/gpu.
set -u
here=$(dirname "$0")
work=$(mktemp -d "${TMPDIR:-/tmp}/hardware-dry.XXXXXX")
trap 'rm -rf "$work"' EXIT
bad=0

# WHAT STATUS PATTERN: the last part ended so and said so
expect() {
	if [ "$rc" -ne "$2" ] || ! grep -q "$3" "$work/said"; then
		echo "hardware.sh $1: status $rc, wanted $2 and '$3':"
		tail -n 5 "$work/said"
		bad=1
	fi
}

part() {
	"$here/hardware.sh" "$1" "$work" "$work/out" > "$work/said" 2>&1
	rc=$?
}

mkdir -p "$work/run" "$work/bin"
for t in runtime expert_reduce; do
	ln -s "$(cd "$1" && pwd)/san/run/test_$t" "$work/run/"
done
ln -s "$(cd "$1" && pwd)/san/run/bench_dry" "$work/run/bench_gpu"
export TEST_ARGS='' BENCH_ARGS=--small
part a
expect a 0 'a: 2 of 2 passed'
printf '#!/bin/sh\nexit 3\n' > "$work/run/test_bad"
chmod +x "$work/run/test_bad"
part a
expect 'a with a fault' 1 'a: 2 of 3 passed'
rm "$work/run/test_bad"

# times mean nothing here: the figures must be there and the litmus must hold
part b
expect b "$rc" 'litmus: 20 rounds, 0 values stale on the host, 0 on the device'
expect b "$rc" 'hand-off of a layer, us, the most: [-0-9]'
expect b "$rc" 'copies from the arena, % .*: [0-9]'
BENCH_OPS='layer expert_group' part c
expect c 1 'layer_experts'
expect c 1 '% of what reading reaches, the least: nothing'

# a daemon that is as fast as its policy says
cat > "$work/bin/sluiced" << 'END'
#!/bin/sh
for a; do last=$a; done
trap 'rm -f "${0%/*}/policy"; exit' TERM
echo "$last" > "${0%/*}/policy"
while sleep 0.1; do :; done
END
cat > "$work/bin/sluice" << 'END'
#!/bin/sh
policy=$(cat "${0%/*}/policy") || exit 1
case $policy in vram) speed=${FAST:-1800} ;; *) speed=1000 ;; esac
case $1 in
bench) printf '[{"avg_ts":%s, "device_hit_rate":0.5, "device_link_gbs": 20.5, "device_overlap": 0.75}]\n' "$speed" ;;
status) printf '{"hits":1,"device":{"vram_bytes": 1000,\n"handoff_us":15.0, "hits":500}}\n' ;;
esac
END
chmod +x "$work/bin/sluiced" "$work/bin/sluice"
cat > "$work/bin/make_model" << 'END'
#!/bin/sh
echo "$*"
while [ $# -gt 0 ]; do [ "$1" = --out ] && : > "$2"; shift; done
END
chmod +x "$work/bin/make_model"
export WORK="$work"
part d
expect 'd without its file' 1 'run the part "model" first'
part model
expect model 0 '397b-8.gguf$'
part d
expect d 0 "the routing is the model's own"
printf 'route_trace v1\ngeometry 2 256 8\ndata\n' > "$work/routing.trace"
echo some.jsonl > "$work/routing.name"
part model
expect 'model of a trace' 0 "397b-8.gguf --routing $work/routing.trace$"
part d
expect 'd of a trace' 0 'the routing is that of some.jsonl, 256 experts a layer'
expect d 0 'd: passed'
expect d 0 '14 GB: all on the CPU 1000.00 tok/s, in slots 1800.00 tok/s, hit rate 0.500, layer 69.4 us, time model 70.0 us'
expect d 0 'link 20.5 GB/s, overlap 0.75'
FAST=1200 CACHES=14 part d
expect 'd too slow' 1 'd: failed'
LAYER_US=40 CACHES=14 part d
expect 'd with another layer' 0 'time model 82.5 us'
rc=$("$here/hardware.sh" x "$work" "$work/out" > "$work/said" 2>&1; echo $?)
expect 'of no part' 1 'is no part'
[ $bad -eq 0 ] && echo "hardware.sh runs, counts and judges"
exit $bad
