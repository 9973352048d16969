#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: hardware.sh prepare DIR [ARCH...]   here: builds everything for these architectures (90) into DIR/carried.tar.xz
#        hardware.sh PART DIR OUT            there: one part, from the root of a checkout; results in OUT
# What only a GPU can show, in parts that each take less than ten minutes. The machine needs the NVIDIA driver,
# xz and this checkout with DIR beside it: no compiler, no toolkit.
#   a            all kernels' tests with the shapes of published models: the law's equality on hardware
#   sanitizer    the same programs, small shapes, under compute-sanitizer's four tools (where it is installed)
#   b            between device and host: graph launch, doorbell, reads of the host's rows, hand-off of a layer,
#                litmus of release and launch order, copies from the registered arena
#   c            times of operations and layers as shares of what this GPU reads
#   model, d     8 layers of the 397B shape (made by "model") through the daemon: experts in slots of 14 and 22 GB
#                (scaled by layers and experts) against all experts on the CPU, in the order A-B-B-A. The model routes
#                as the trace that "prepare" packed (TRACE, by default one of SHARED/traces: 256 experts, 15 GiB);
#                without one its routers are random (512 experts, 29 GiB)
# SHARED names the fixtures (without it: tests/data), JOBS how many tests run at once, WORK where d's file lies.
# The last line of a part says how it ended; exit 1 if it did not pass.
set -u
LIMIT_MIB=64
PART_SECONDS=${PART_SECONDS:-570}
LAYERS=8 ALL_LAYERS=60 ALL_EXPERTS=512

say() { printf '%s\n' "$*"; }
die() { say "hardware.sh: $*" >&2; exit 1; }

# ---- here

# The libraries of @program that a bare machine may lack: all but the C library's own.
carried_libs() {
	ldd "$1" | awk '$3 ~ /^\// { print $3 }' |
		grep -Ev '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*)\.so'
}

prepare() {
	dir=$1
	shift
	[ $# -gt 0 ] || set -- 90
	arch=$* obj=$dir/obj stage=$dir/stage code=
	for a; do code="$code -gencode=arch=compute_$a,code=sm_$a"; done
	[ "$(cat "$obj/arch" 2> /dev/null)" = "$arch" ] || rm -rf "$obj"
	rm -rf "$stage" "$dir/carried.tar.xz"
	mkdir -p "$obj" "$stage/run" "$stage/bin" "$stage/lib" || exit 1
	say "$arch" > "$obj/arch"
	make --no-print-directory "O=$obj" "CUDA_CODE=$code" gpu-programs || die "the programs do not build"
	make --no-print-directory "O=$obj" "CUDA_CODE=$code" DEVICE_CUDA=1 \
		"$obj/sluiced" "$obj/sluice" "$obj/bench/make_model" || die "the daemon does not build"
	find "$obj/gpu/run" -type f ! -name '*.d' -exec cp {} "$stage/run/" \;
	cp "$obj/sluiced" "$obj/sluice" "$obj/bench/make_model" "$stage/bin/"
	for p in "$stage"/bin/*; do carried_libs "$p"; done | sort -u | while read -r lib; do
		cp -L "$lib" "$stage/lib/"
	done
	strip --strip-unneeded "$stage"/run/* "$stage"/bin/* "$stage"/lib/*
	trace=${TRACE:-${SHARED:-../shared}/traces/kimi-linear.jsonl}
	if [ -e "$trace" ]; then
		"$obj/sluice" trace convert "$trace" "$stage/routing.trace" || die "$trace is no trace"
		chmod 644 "$stage/routing.trace"
		basename "$trace" > "$stage/routing.name"
	else
		say "no routing is replayed in part d: there is no $trace"
	fi
	say "$arch" > "$stage/arch"
	tar -C "$stage" -cf - . | xz -9e -T1 > "$dir/carried.tar.xz" || die "no archive"
	bytes=$(wc -c < "$dir/carried.tar.xz")
	[ "$bytes" -le $((LIMIT_MIB << 20)) ] || die "the archive has $bytes bytes, more than $LIMIT_MIB MiB"
	say "$dir/carried.tar.xz: $bytes bytes, $(find "$stage/run" -name 'test_*' | wc -l) tests, sm_$(say "$arch" | sed 's/ / sm_/g')"
}

# ---- there

# The unpacked programs, once: $programs
unpack() {
	if [ -d "$1/run" ]; then # for dry runs: no archive
		programs=$1
	else
		programs=${TMPDIR:-/tmp}/sluice-hardware.$(id -u)
		sum=$(cksum < "$1/carried.tar.xz") || die "there is no $1/carried.tar.xz"
		if [ "$sum" != "$(cat "$programs/unpacked" 2> /dev/null)" ]; then
			rm -rf "$programs"
			mkdir -p "$programs" || exit 1
			tar -C "$programs" -xJf "$1/carried.tar.xz" || die "$1/carried.tar.xz cannot be unpacked"
			say "$sum" > "$programs/unpacked"
		fi
	fi
	export LD_LIBRARY_PATH="$programs/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
}

# What the results belong to.
machine() {
	{
		date -u
		uname -srm
		nproc
		nvidia-smi --query-gpu=name,driver_version,memory.total,pcie.link.gen.current,pcie.link.width.current \
			--format=csv,noheader 2> /dev/null || say "no nvidia-smi"
	} > "$out/machine.txt"
	cat "$out/machine.txt"
}

# NAME COMMAND... of every line of a list, JOBS at a time: logs in OUT, a line each, then the sum
run_list() {
	# shellcheck disable=SC2016 # expanded by the shells that xargs starts
	one='name=$1; shift; log=$OUT_DIR/$name.log
"$@" > "$log" 2>&1; rc=$?
[ $rc -eq 0 ] && echo "ok $name: $(tail -n 1 "$log")" || echo "FAILED $name (exit $rc): $(tail -n 1 "$log")"'
	OUT_DIR=$out timeout "$PART_SECONDS" xargs -a "$1" -P "${JOBS:-8}" -L 1 sh -c "$one" sh > "$out/results"
	sort "$out/results"
	passed=$(grep -c '^ok ' "$out/results")
	wanted=$(wc -l < "$1")
	say "$part: $passed of $wanted passed"
	[ "$passed" -eq "$wanted" ]
}

tests_of() {
	for t in "$programs"/run/test_*; do
		case $t in *.d) ;; *) say "$t" ;; esac
	done
}

part_a() {
	args=${TEST_ARGS---all}
	for t in $(tests_of); do # no blank at the end: xargs would go on with the next line
		say "$(basename "$t") timeout ${TEST_TIMEOUT:-300} $t${args:+ $args}"
	done > "$out/list"
	run_list "$out/list"
}

part_sanitizer() {
	command -v compute-sanitizer > /dev/null || {
		say "sanitizer: compute-sanitizer is not installed: nothing was checked"
		return 1
	}
	for tool in memcheck racecheck initcheck synccheck; do
		for t in $(tests_of); do
			say "$tool-$(basename "$t") timeout ${TEST_TIMEOUT:-300} compute-sanitizer --tool $tool --error-exitcode 9 $t"
		done
	done > "$out/list"
	run_list "$out/list"
}

# OPERATIONS...: the benchmark of them, alone on the GPU
bench() {
	# shellcheck disable=SC2046,SC2086 # lists of words
	set -- $(printf -- '--op %s ' "$@") ${BENCH_ARGS:-}
	timeout "$PART_SECONDS" "$programs/run/bench_gpu" --json "$out/bench.json" "$@" > "$out/bench.md" 2> "$out/bench.err"
	rc=$?
	cat "$out/bench.md"
	[ $rc -eq 0 ] || tail -n 3 "$out/bench.err"
	return $rc
}

# The largest figure of column $2 (a percentage or a number) of the table's rows that begin with "| $1 |"
table_least() { awk -F'|' -v op=" $1 " -v col="$2" '$2 == op { v = $col; gsub(/[ %]/, "", v)
	if (v != "" && (least == "" || v + 0 < least + 0)) least = v } END { print least }' "$out/bench.md"; }
table_most() { awk -F'|' -v op=" $1 " -v col="$2" '$2 == op { v = $col; gsub(/[ %]/, "", v)
	if (v != "" && (most == "" || v + 0 > most + 0)) most = v } END { print most }' "$out/bench.md"; }

# WHAT VALUE -le|-ge BOUND: a line, and whether it holds; no value is a failure
judge() {
	say "$1: ${2:-nothing} (wanted $3 $4)"
	[ -n "$2" ] && [ "$(awk -v a="$2" -v b="$4" -v le="$3" 'BEGIN { print (le == "-le" ? a <= b : a >= b) }')" = 1 ]
}

# The last line of a part that judged its figures.
verdict() {
	if [ "$ok" -eq 0 ]; then say "$part: passed"; else say "$part: failed"; fi
	return "$ok"
}

part_b() {
	ok=0
	bench litmus link handoff || { say "b: failed"; return 1; }
	judge "hand-off of a layer, us, the most" "$(table_most handoff 5)" -le 25 || ok=1
	judge "copies from the arena, % of the runtime's own memory" "$(table_least link 7)" -ge 90 || ok=1
	verdict
}

part_c() {
	ok=0
	# shellcheck disable=SC2086 # a list of words
	bench ${BENCH_OPS:-matvec expert_group expert_gate_up expert_down layer layer_experts router rmsnorm delta attend_decode} ||
		{ say "c: failed"; return 1; }
	judge "experts, % of what reading reaches, the least" "$(table_least expert_group 7)" -ge 60 || ok=1
	verdict
}

# ---- the daemon

# The trace that the model routes by, and its experts in a layer.
routing() { [ -s "$programs/routing.trace" ] && printf '%s/routing.trace' "$programs"; }
experts() {
	if routing > /dev/null; then awk '/^geometry / { print $3; exit }' "$programs/routing.trace"; else say $ALL_EXPERTS; fi
}

model_file() { printf '%s/397b-%s.gguf' "${WORK:-${TMPDIR:-/tmp}}" "$LAYERS"; }

part_model() {
	trace=$(routing)
	timeout "$PART_SECONDS" "$programs/bin/make_model" --shape "${SHAPE:-qwen3.5-397b-a17b}" --layers "$LAYERS" \
		--vocab "${VOCAB:-32768}" --out "$(model_file)" ${trace:+--routing "$trace"} || { say "model: failed"; return 1; }
	say "model: passed, $(wc -c < "$(model_file)") bytes"
}

# SECONDS COMMAND...: until it succeeds
wait_for() {
	left=$1
	shift
	until "$@" > /dev/null 2>&1; do
		left=$((left - 1))
		[ "$left" -gt 0 ] || return 1
		kill -0 "$daemon" 2> /dev/null || return 1
		sleep 1
	done
}

# NAME BUDGET POLICY: a daemon, its speed to OUT/NAME.json and its state to OUT/NAME.status
one_run() {
	sock=$out/$1.sock
	"$programs/bin/sluiced" --model "$(model_file)" --socket "$sock" --ctx 1024 --parallel 1 --device "${DEVICE:-cuda}" \
		--device-budget "$2" --device-policy "$3" > "$out/$1.daemon" 2>&1 &
	daemon=$!
	rc=1
	if wait_for 240 "$programs/bin/sluice" status --socket "$sock"; then
		"$programs/bin/sluice" bench --socket "$sock" -p 0 -n "${TOKENS:-256}" -r "${REPEATS:-3}" -o json \
			> "$out/$1.json" 2> "$out/$1.err" &&
			"$programs/bin/sluice" status --socket "$sock" --json > "$out/$1.status" && rc=0
	fi
	kill "$daemon" 2> /dev/null
	wait "$daemon" 2> /dev/null
	[ $rc -eq 0 ] || tail -n 3 "$out/$1.daemon" "$out/$1.err" 2> /dev/null
	return $rc
}

# FILE KEY: the first number that stands at "KEY" in FILE; of what it says of its device
number_at() { grep -o "\"$2\": *[0-9.]*" "$1" | head -n 1 | sed 's/.*: *//'; }
of_device() {
	tr -d '\n' < "$1" | sed 's/.*"device": *{//' > "$1.device"
	number_at "$1.device" "$2"
}

part_d() {
	ok=0
	[ -e "$(model_file)" ] || { say "d: failed: there is no $(model_file): run the part \"model\" first"; return 1; }
	one_run base 0 cpu || { say "d: failed"; return 1; }
	base=$(of_device "$out/base.status" vram_bytes)
	for cache in ${CACHES:-14 22}; do
		budget=$(awk -v b="$base" -v c="$cache" -v l=$LAYERS -v n=$ALL_LAYERS -v e="$(experts)" -v all=$ALL_EXPERTS \
			'BEGIN { printf "%.0f", b + c * 1e9 * l / n * e / all }')
		for run in a1:cpu b1:vram b2:vram a2:cpu; do
			one_run "$cache-${run%:*}" "$budget" "${run#*:}" || { say "d: failed"; return 1; }
		done
		for r in a1 b1 b2 a2; do number_at "$out/$cache-$r.json" avg_ts; done > "$out/$cache.speeds"
		rate=$(number_at "$out/$cache-b2.json" device_hit_rate)
		# of a layer, without its experts: from its launch to its routes, as the daemon measured it
		fixed=${LAYER_US:-$(of_device "$out/$cache-b2.status" handoff_us)}
		say "$cache GB: hand-off with the layer's dense part $(number_at "$out/$cache-b2.json" device_handoff_us) us," \
			"link $(number_at "$out/$cache-b2.json" device_link_gbs) GB/s, overlap $(number_at "$out/$cache-b2.json" device_overlap)"
		# all on the CPU: that and all experts; in slots: that and the misses
		awk -v rate="${rate:-0}" -v layers=$LAYERS -v fixed="${fixed:-0}" -v cache="$cache" '
			{ v[NR] = $1 }
			END {
				a = (v[1] + v[4]) / 2; b = (v[2] + v[3]) / 2
				if (a <= 0 || b <= 0 || rate <= 0 || fixed <= 0) { print "no figures"; exit 1 }
				ta = 1e6 / a / layers; tb = 1e6 / b / layers
				model = fixed + (1 - rate) * (ta - fixed)
				printf "%s GB: all on the CPU %.2f tok/s, in slots %.2f tok/s, hit rate %.3f, layer %.1f us, time model %.1f us, reached %.3f\n", \
					cache, a, b, rate, tb, model, model / tb
				exit model / tb < 0.85
			}' "$out/$cache.speeds" || ok=1
	done
	if routing > /dev/null; then
		say "d: the routing is that of $(cat "$programs/routing.name"), $(experts) experts a layer"
	else
		say "d: the routing is the model's own (random routers whose rows differ in length), not a trace's"
	fi
	verdict
}

[ $# -ge 2 ] || die "usage: hardware.sh prepare DIR [ARCH...] | hardware.sh a|sanitizer|b|c|model|d DIR OUT"
part=$1 dir=$2
if [ "$part" = prepare ]; then
	shift
	prepare "$@"
	exit
fi
[ $# -eq 3 ] || die "$part: DIR and OUT are wanted"
out=$3
mkdir -p "$out" || exit 1
case $part in
a | sanitizer | b | c | model | d) ;;
*) die "$part is no part" ;;
esac
unpack "$dir"
machine
"part_$part"
