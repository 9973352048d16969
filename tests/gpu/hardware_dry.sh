#!/bin/sh
# SPDX-License-Identifier: MIT
# hardware.sh's parts where there is no GPU: programs of the shim in place of the GPU's, a daemon of a few lines
# for part d. What is proved: that each part runs, counts and judges. Argument: build directory/gpu.
set -u
here=$(dirname "$0")
work=$(mktemp -d "${TMPDIR:-/tmp}/hardware-dry.XXXXXX")
trap 'rm -rf "$work"' EXIT
unset LD_LIBRARY_PATH
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

# PART EXPRESSION: of its result.json, r
result() {
	python3 -c "import json, sys; r = json.load(open(sys.argv[1])); sys.exit(not ($2))" "$work/out/$1/result.json" || {
		echo "hardware.sh $1: its result.json is not as '$2':"
		cat "$work/out/$1/result.json"
		bad=1
	}
}

mkdir -p "$work/run" "$work/bin"
for t in runtime expert_reduce; do
	ln -s "$(cd "$1" && pwd)/san/run/test_$t" "$work/run/"
done
ln -s "$(cd "$1" && pwd)/san/run/bench_dry" "$work/run/bench_gpu"
export TEST_ARGS='' BENCH_ARGS=--small
part a
expect a 0 'a: 2 of 2 passed'
result a 'r["passed"] and r["machine"] and r["figures"] == [{"what": "passed", "value": 2, "wanted": "-ge 2"}]'
printf '#!/bin/sh\nexit 3\n' > "$work/run/test_bad"
chmod +x "$work/run/test_bad"
part a
expect 'a with a fault' 1 'a: 2 of 3 passed'
result a 'not r["passed"] and r["last_line"] == "a: 2 of 3 passed"'
mkdir "$work/tests" "$work/sanitizer"
mv "$work"/run/test_* "$work/tests"
part a
expect 'a without tests' 1 'a: 0 of 0 passed'
printf '#!/bin/sh\nsleep 60\n' > "$work/run/test_hangs"
chmod +x "$work/run/test_hangs"
PART_SECONDS=8 RESERVE=6 part a
expect 'a that hangs' 1 'MISSING test_hangs\|not done after 8 s'
result a 'not r["passed"]'
# a signal to "all" reaches what the part runs; no other part begins
cat > "$work/run/test_hangs" << 'END'
#!/bin/sh
echo $$ > "${0%/run/*}/hanging"
exec sleep 120
END
PARTS='a model' "$here/hardware.sh" all "$work" "$work/out" > "$work/said" 2>&1 &
all=$!
turns=600
until [ -s "$work/hanging" ] || [ $turns -eq 0 ]; do
	sleep 0.1
	turns=$((turns - 1))
done
kill "$all"
wait "$all"
rc=$?
if [ $rc -ne 1 ] || kill -0 "$(cat "$work/hanging")" 2> /dev/null || [ -e "$work/out/model" ]; then
	echo "hardware.sh all, ended by a signal: status $rc, $(ps -o args= -p "$(cat "$work/hanging")")"
	bad=1
fi
# the packed compute-sanitizer, in place of which a few lines run the program
cat > "$work/sanitizer/compute-sanitizer" << 'END'
#!/bin/sh
tool=$2
while [ $# -gt 1 ]; do shift; done
"$1" && [ "$tool" != "$BAD_TOOL" ]
END
chmod +x "$work/sanitizer/compute-sanitizer"
printf '#!/bin/sh\necho fine\n' > "$work/run/test_hangs"
export BAD_TOOL=none
part sanitizer
expect sanitizer 0 'sanitizer: 4 of 4 passed'
BAD_TOOL=racecheck part sanitizer
expect 'sanitizer with a finding' 1 'FAILED racecheck-test_hangs'
BAD_TOOL=racecheck TOOLS='memcheck initcheck' part sanitizer
expect 'some tools' 0 'sanitizer: 2 of 2 passed'
# a GPU of another architecture, and a C library that is too old
mkdir "$work/tools" "$work/libc"
# shellcheck disable=SC2016 # expanded by the scripts
printf '#!/bin/sh\ncase $1 in *compute_cap*) echo 8.9 ;; *) echo something ;; esac\n' > "$work/tools/nvidia-smi"
printf '#!/bin/sh\nshift 2\nexec "$@"\n' > "$work/libc/ld.so"
# shellcheck disable=SC2016
printf '#!/bin/sh\n[ -z "$LD_LIBRARY_PATH" ] || { echo GLIBC_9; exit 1; }\n' > "$work/bin/sluiced"
chmod +x "$work/tools/nvidia-smi" "$work/libc/ld.so" "$work/bin/sluiced"
echo '90 120' > "$work/arch"
PATH=$work/tools:$PATH part a
expect 'another GPU' 1 'this GPU is sm_89, the archive is for sm_90 sm_120: '
result a 'not r["passed"] and "compute_cap: 8.9" in r["machine"]'
echo '90a 86' > "$work/arch"
PATH=$work/tools:$PATH part a
expect 'an older code of its generation' 0 'a: 1 of 1 passed'
expect 'an old C library' 0 'the C library is too old, .*: GLIBC_9'
rm -r "$work/libc" "$work"/run/test_*
mv "$work"/tests/test_runtime "$work"/tests/test_expert_reduce "$work/run/"

# times mean nothing here: the figures must be there and the litmus must hold
part b
expect b "$rc" 'litmus: 20 rounds, 0 values stale on the host, 0 on the device'
expect b "$rc" 'hand-off of a layer, us, the most: [-0-9]'
expect b "$rc" 'copies from the arena, % .*: [0-9]'
BENCH_OPS='layer expert_group' part c
expect c 1 'layer_experts'
expect c 1 '% of what reading reaches, the least: nothing'
result c 'r["figures"][0]["value"] is None and r["figures"][0]["wanted"] == "-ge 60"'

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
[ -e "${0%/*}/fails" ] && [ "$1" = bench ] && exit 1
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
expect model 0 '397b-8.gguf.part$'
part d
expect d 0 "the routing is the model's own"
printf 'route_trace v1\ngeometry 2 256 8\ndata\n' > "$work/routing.trace"
echo some.jsonl > "$work/routing.name"
part model
expect 'model of a trace' 0 "397b-8.gguf.part --routing $work/routing.trace$"
part d
expect 'd of a trace' 0 'the routing is that of some.jsonl, 256 experts a layer'
expect d 0 'd: passed'
expect d 0 '14 GB: all on the CPU 1000.00 tok/s, in slots 1800.00 tok/s, hit rate 0.500, layer 69.4 us, time model 70.0 us'
expect d 0 'link 20.5 GB/s, overlap 0.75'
result d 'r["passed"] and r["figures"][-1] == {"what": "22 GB reached of the time model", "value": 1.008, "wanted": "-ge 0.85"}'
FAST=1200 CACHES=14 part d
expect 'd too slow' 1 'd: failed'
LAYER_US=40 CACHES=14 part d
expect 'd with another layer' 0 'time model 82.5 us'
# what fails leaves the others to run
rm "$work/397b-8.gguf"
: > "$work/bin/fails"
PARTS='d model' part all
expect 'all' 1 'model: passed'
expect 'all' 1 'all: failed: d$'
rm "$work/bin/fails"
PARTS='model d' CACHES=14 part all
expect 'all' 0 'all: passed'
rc=$("$here/hardware.sh" x "$work" "$work/out" > "$work/said" 2>&1; echo $?)
expect 'of no part' 1 'is no part'
[ $bad -eq 0 ] && echo "hardware.sh runs, counts and judges"
exit $bad
