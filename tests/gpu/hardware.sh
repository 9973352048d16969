#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: hardware.sh prepare DIR [ARCH...]   here: builds everything for these architectures (90) into DIR/carried.tar.xz
#        hardware.sh PART DIR OUT            there: one part, from the root of a checkout; results in OUT/PART
#        hardware.sh all DIR OUT             there: PARTS (all of them), one after the other, whatever fails
# What only a GPU can show, in parts that each take less than ten minutes. The machine needs the NVIDIA driver,
# xz and this checkout with DIR beside it: no compiler, no toolkit, and no C library as new as the one here.
#   a            all kernels' tests with the shapes of published models: the law's equality on hardware
#   sanitizer    the same programs, small shapes, under compute-sanitizer's four tools (TOOLS: some of them), which
#                "prepare" packs
#   b            between device and host: graph launch, doorbell, reads of the host's rows, hand-off of a layer,
#                litmus of release and launch order, copies from the registered arena
#   c            times of operations and layers as shares of what this GPU reads
#   model, d     8 layers of the 397B shape (made by "model") through the daemon: experts in slots of 14 and 22 GB
#                (scaled by layers and experts) against all experts on the CPU, in the order A-B-B-A. The model routes
#                as the trace that "prepare" packed (TRACE, by default one of SHARED/traces: 256 experts, 15 GiB);
#                without one its routers are random (512 experts, 29 GiB)
# SHARED names the fixtures (without it: tests/data), JOBS how many tests run at once, WORK where d's file lies,
# CACHES what d takes ("14 22"), PART_SECONDS how long a part may take: it is ended then, and what it has is kept.
# The last line of a part says how it ended; exit 1 if it did not pass. OUT/PART/result.json has that, its figures
# and the machine, OUT/PART/said every line, and beside them lie the logs of programs.
set -u
LIMIT_MIB=64
PART_SECONDS=${PART_SECONDS:-570}
RESERVE=${RESERVE:-15} # of that, to say what was not done
LAYERS=8 ALL_LAYERS=60 ALL_EXPERTS=512
SANITIZER_WHEEL='nvidia-cuda-sanitizer-api==13.0.*'

say() { printf '%s\n' "$*"; }
die() { say "hardware.sh: $*" >&2; exit 1; }
now() { date +%s; }

# ---- here

# The libraries of @program but for the C library's own.
carried_libs() {
	ldd "$1" | awk '$3 ~ /^\// { print $3 }' | grep -Ev "$c_library"
}
c_library='/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*)\.so'

# The C library's own and its loader, for machines with an older one: not beside the others, since a loader takes
# only the C library that it came with.
carry_c_library() {
	loader=$(ldd "$1" | awk '$1 ~ /\/ld-linux/ { print $1 }')
	[ -n "$loader" ] || die "$1 has no loader"
	libs=$(dirname "$(ldd "$1" | awk '$1 == "libc.so.6" { print $3 }')")
	cp -L "$loader" "$2/ld.so" || exit 1
	for lib in libc.so.6 libm.so.6 libdl.so.2 librt.so.1 libpthread.so.0; do
		cp -L "$libs/$lib" "$2/" || exit 1
	done
}

# compute-sanitizer into $1: the toolkit's, or NVIDIA's wheel of it. Without one the part "sanitizer" needs the machine's.
carry_sanitizer() {
	at=$(dirname "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")/../compute-sanitizer
	if [ -x "$at/compute-sanitizer" ]; then
		cp -L "$at/compute-sanitizer" "$at"/*.so "$1/"
		return
	fi
	(cd "$1" && python3 -m pip download -q --no-deps --no-cache-dir "$SANITIZER_WHEEL" && unzip -q ./*.whl &&
		mv nvidia/*/lib/*.so . && mv nvidia/*/bin/* . && rm -rf nvidia ./*.dist-info ./*.whl) > "$1.log" 2>&1 || {
		say "compute-sanitizer is not packed: neither the toolkit nor $SANITIZER_WHEEL is to be had"
		rm -rf "$1"
	}
}

# Kernels that spill registers, by what ptxas said of each last
spills() {
	awk -F"'" '/Compiling entry function/ { name = $4 " " $2 } /bytes spill stores/ { split($0, w, ","); said[name] = w[2] }
		END { for (n in said) if (said[n] + 0) print n ":" said[n] }' "$1" | sort
}

prepare() {
	dir=$1
	shift
	[ $# -gt 0 ] || set -- 90
	arch=$* obj=$dir/obj stage=$dir/stage code=
	for a; do code="$code -gencode=arch=compute_$a,code=sm_$a"; done
	code="$code -Xptxas -v" # tells registers and spills
	[ "$(cat "$obj/arch" 2> /dev/null)" = "$arch" ] || rm -rf "$obj"
	rm -rf "$stage" "$dir/carried.tar.xz"
	mkdir -p "$obj" "$stage/run" "$stage/bin" "$stage/lib" "$stage/libc" "$stage/sanitizer" || exit 1
	say "$arch" > "$obj/arch"
	make --no-print-directory "O=$obj" "CUDA_CODE=$code" gpu-programs 2>> "$obj/ptxas.log" || {
		grep -v '^ptxas info\|bytes stack frame' "$obj/ptxas.log" | tail -n 20
		die "the programs do not build"
	}
	spills "$obj/ptxas.log" > "$obj/spills"
	cat "$obj/spills"
	grep gate_up "$obj/spills" && die "the experts' gate and up spill registers (ptxas.log keeps what is mended, too: remove $obj then)"
	make --no-print-directory "O=$obj" "CUDA_CODE=$code" DEVICE_CUDA=1 \
		"$obj/sluiced" "$obj/sluice" "$obj/bench/make_model" || die "the daemon does not build"
	find "$obj/gpu/run" -type f ! -name '*.d' -exec cp {} "$stage/run/" \;
	cp "$obj/sluiced" "$obj/sluice" "$obj/bench/make_model" "$stage/bin/"
	for p in "$stage"/bin/* "$stage"/run/*; do carried_libs "$p"; done | sort -u | while read -r lib; do
		cp -L "$lib" "$stage/lib/"
	done
	carry_c_library "$stage/bin/sluiced" "$stage/libc"
	strip --strip-unneeded "$stage"/run/* "$stage"/bin/* "$stage"/lib/*
	carry_sanitizer "$stage/sanitizer"
	trace=${TRACE:-${SHARED:-../shared}/traces/kimi-linear.jsonl}
	if [ -e "$trace" ]; then
		"$obj/sluice" trace convert "$trace" "$stage/routing.trace" || die "$trace is no trace"
		chmod 644 "$stage/routing.trace"
		basename "$trace" > "$stage/routing.name"
	else
		say "no routing is replayed in part d: there is no $trace"
	fi
	say "$arch" > "$stage/arch"
	scripts/version.sh > "$stage/version"
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
	# for programs of the archive alone: tools of the machine have libraries of their own
	ours="env LD_LIBRARY_PATH=$programs/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
	around=$ours inside='' # of compute-sanitizer, which runs with any C library
	[ -d "$programs/libc" ] || return 0
	# the daemon has all libraries, that of C++ too, which asks for the newest
	$ours "$programs/bin/sluiced" --version > "$out/loader" 2>&1 && return
	ours="$programs/libc/ld.so --library-path $programs/libc:$programs/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
	around='' inside=$ours
	say "the C library is too old, the archive's is taken: $(tail -n 1 "$out/loader")"
	$ours "$programs/bin/sluiced" --version > "$out/loader" 2>&1 ||
		die "programs of the archive do not start: $(tail -n 1 "$out/loader")"
}

# FIELD of the first GPU
smi() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2> /dev/null | head -n 1; }

# What the results belong to.
machine() {
	{
		date -u
		cat "$programs/version" 2> /dev/null
		uname -srm
		say "$(nproc) processors, $(awk '/^MemTotal|^HugePages_Total/ { printf "%s %s ", $1, $2 }' /proc/meminfo)"
		nvidia-smi -L 2> /dev/null || say "no nvidia-smi"
		for field in name driver_version memory.total compute_cap pcie.link.gen.max pcie.link.width.max mig.mode.current \
			ecc.mode.current power.limit clocks.max.sm clocks.max.mem; do
			value=$(smi $field) && [ -n "$value" ] && say "$field: $value"
		done
	} > "$out/machine.txt"
	cat "$out/machine.txt"
}

# Code for an architecture runs on those of its generation that are not older.
suits() {
	cap=$(smi compute_cap | tr -cd 0-9)
	[ -n "$cap" ] && [ -s "$programs/arch" ] || return 0
	# shellcheck disable=SC2013 # words
	for a in $(cat "$programs/arch"); do
		n=${a%[a-z]} # 90a is 90 with what no other has
		[ $((n / 10)) -eq $((cap / 10)) ] && [ "$n" -le "$cap" ] && return
	done
	die "this GPU is sm_$cap, the archive is for sm_$(sed 's/ / sm_/g' "$programs/arch"): hardware.sh prepare DIR $cap"
}

# Seconds that are left to this part, one at the least.
left() {
	l=$((HARDWARE_DEADLINE - RESERVE - $(now)))
	say $((l > 1 ? l : 1))
}

# NAME COMMAND... of every line of a list, JOBS at a time: logs in OUT, a line each, then the sum
run_list() {
	# shellcheck disable=SC2016 # expanded by the shells that xargs starts
	one='name=$1; shift; log=$OUT_DIR/$name.log
"$@" > "$log" 2>&1; rc=$?
[ $rc -eq 0 ] && echo "ok $name: $(tail -n 1 "$log")" || echo "FAILED $name (exit $rc): $(tail -n 1 "$log")"'
	# a group of its own, which this one's end does not reach
	OUT_DIR=$out timeout -k 5 "$(left)" xargs -a "$1" -P "${JOBS:-8}" -L 1 sh -c "$one" sh > "$out/results" &
	tests=$!
	trap 'kill "$tests" 2> /dev/null; exit 1' INT TERM
	wait "$tests"
	trap - INT TERM
	sort "$out/results"
	while read -r name _; do
		grep -q "^[a-zA-Z]* ${name}[: ]" "$out/results" || say "MISSING $name: it was not done in time"
	done < "$1"
	passed=$(grep -c '^ok ' "$out/results")
	wanted=$(wc -l < "$1")
	figure passed "$passed" -ge "$wanted"
	say "$part: $passed of $wanted passed"
	[ "$wanted" -gt 0 ] && [ "$passed" -eq "$wanted" ]
}

tests_of() {
	for t in "$programs"/run/test_*; do
		case $t in *.d) ;; *) [ -e "$t" ] && say "$t" ;; esac
	done
}

part_a() {
	args=${TEST_ARGS---all}
	for t in $(tests_of); do # no blank at the end: xargs would go on with the next line
		say "$(basename "$t") timeout --foreground ${TEST_TIMEOUT:-300} $ours $t${args:+ $args}"
	done > "$out/list"
	run_list "$out/list"
}

part_sanitizer() {
	sanitizer=$programs/sanitizer/compute-sanitizer
	[ -x "$sanitizer" ] || sanitizer=$(command -v compute-sanitizer) || {
		say "sanitizer: compute-sanitizer is neither packed nor installed: nothing was checked"
		return 1
	}
	for tool in ${TOOLS:-memcheck synccheck initcheck racecheck}; do # the slowest last
		for t in $(tests_of); do
			say "$tool-$(basename "$t") timeout --foreground ${TEST_TIMEOUT:-300} $around $sanitizer --tool $tool --error-exitcode 9 $inside $t"
		done
	done > "$out/list"
	run_list "$out/list"
}

# OPERATIONS...: the benchmark of them, alone on the GPU
bench() {
	# shellcheck disable=SC2046,SC2086 # lists of words
	set -- $(printf -- '--op %s ' "$@") ${BENCH_ARGS:-}
	# shellcheck disable=SC2086 # a list of words
	timeout --foreground "$(left)" $ours "$programs/run/bench_gpu" --json "$out/bench.json" "$@" > "$out/bench.md" 2> "$out/bench.err"
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

# WHAT VALUE [-le|-ge BOUND]: for result.json
figure() {
	value=$(say "${2:-}" | grep -Ex -- '-?[0-9]+(\.[0-9]+)?')
	printf '{"what":"%s","value":%s%s}\n' "$1" "${value:-null}" "${3:+,\"wanted\":\"$3 $4\"}" >> "$out/figures"
}

# WHAT VALUE -le|-ge BOUND: a line, and whether it holds; no value is a failure
judge() {
	say "$1: ${2:-nothing} (wanted $3 $4)"
	figure "$@"
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
	file=$(model_file)
	rm -f "$file"
	# shellcheck disable=SC2086 # a list of words
	if ! timeout --foreground "$(left)" $ours "$programs/bin/make_model" --shape "${SHAPE:-qwen3.5-397b-a17b}" \
		--layers "$LAYERS" --vocab "${VOCAB:-32768}" --out "$file.part" ${trace:+--routing "$trace"} || ! mv "$file.part" "$file"; then
		rm -f "$file.part"
		say "model: failed"
		return 1
	fi
	figure bytes "$(wc -c < "$file")"
	say "model: passed, $(wc -c < "$file") bytes"
}

# SECONDS COMMAND...: until it succeeds
wait_for() {
	turns=$1
	shift
	until "$@" > /dev/null 2>&1; do
		turns=$((turns - 1))
		[ "$turns" -gt 0 ] && [ "$(left)" -gt 1 ] || return 1
		kill -0 "$daemon" 2> /dev/null || return 1
		sleep 1
	done
}

# The daemon's memory and, at its policy, the slots are filled: speeds before that are of something else.
is_settled() {
	# shellcheck disable=SC2086 # a list of words
	timeout --foreground 10 $ours "$programs/bin/sluice" status --socket "$sock" --json > "$out/settling" || return 1
	grep -q '"filling": *true' "$out/settling" && return 1
	[ "$1" = cpu ] || [ "$(of_device "$out/settling" resident)" = "$(of_device "$out/settling" slots)" ]
}

# NAME BUDGET POLICY: a daemon, its speed to OUT/NAME.json and its state to OUT/NAME.status
one_run() {
	[ "$(left)" -gt "${RUN_SECONDS:-30}" ] || { say "$1: no time is left: CACHES=14 and CACHES=22 one by one"; return 1; }
	sock=$out/$1.sock
	# shellcheck disable=SC2086 # a list of words
	$ours "$programs/bin/sluiced" --model "$(model_file)" --socket "$sock" --ctx 1024 --parallel 1 --device "${DEVICE:-cuda}" \
		--device-budget "$2" --device-policy "$3" > "$out/$1.daemon" 2>&1 &
	daemon=$!
	rc=1
	# shellcheck disable=SC2086 # a list of words
	if wait_for 240 timeout --foreground 10 $ours "$programs/bin/sluice" status --socket "$sock"; then
		wait_for 60 is_settled "$3" || say "$1: not all is filled"
		timeout --foreground "$(left)" $ours "$programs/bin/sluice" bench --socket "$sock" -p 0 -n "${TOKENS:-256}" \
			-r "${REPEATS:-3}" -o json > "$out/$1.json" 2> "$out/$1.err" &&
			timeout --foreground 10 $ours "$programs/bin/sluice" status --socket "$sock" --json > "$out/$1.status" && rc=0
	fi
	kill "$daemon" 2> /dev/null
	(sleep 20 && kill -9 "$daemon") > /dev/null 2>&1 & # one that hangs on its device
	killer=$!
	wait "$daemon" 2> /dev/null
	kill "$killer" 2> /dev/null
	[ $rc -eq 0 ] || tail -n 3 "$out/$1.daemon" "$out/$1.err" 2> /dev/null
	return $rc
}

# FILE KEY: the first number that stands at "KEY" in FILE; of what it says of its device
number_at() { grep -o "\"$2\": *[0-9.]*" "$1" | head -n 1 | sed 's/.*: *//'; }
of_device() {
	tr -d '\n' < "$1" | sed 's/.*"device": *{//' > "$1.device"
	number_at "$1.device" "$2"
}

# GB: four runs in the order A-B-B-A and what they come to
cache_runs() {
	cache=$1
	budget=$(awk -v b="$base" -v c="$cache" -v l=$LAYERS -v n=$ALL_LAYERS -v e="$(experts)" -v all=$ALL_EXPERTS \
		'BEGIN { printf "%.0f", b + c * 1e9 * l / n * e / all }')
	for run in a1:cpu b1:vram b2:vram a2:cpu; do
		one_run "$cache-${run%:*}" "$budget" "${run#*:}" || return 1
	done
	for r in a1 b1 b2 a2; do number_at "$out/$cache-$r.json" avg_ts; done > "$out/$cache.speeds"
	rate=$(number_at "$out/$cache-b2.json" device_hit_rate)
	# of a layer, without its experts: from its launch to its routes, as the daemon measured it
	fixed=${LAYER_US:-$(of_device "$out/$cache-b2.status" handoff_us)}
	for key in handoff_us link_gbs overlap; do figure "$cache GB $key" "$(number_at "$out/$cache-b2.json" device_$key)"; done
	say "$cache GB: hand-off with the layer's dense part $(number_at "$out/$cache-b2.json" device_handoff_us) us," \
		"link $(number_at "$out/$cache-b2.json" device_link_gbs) GB/s, overlap $(number_at "$out/$cache-b2.json" device_overlap)"
	# all on the CPU: that and all experts; in slots: that and the misses
	awk -v rate="${rate:-0}" -v layers=$LAYERS -v fixed="${fixed:-0}" '
		{ v[NR] = $1 }
		END {
			a = (v[1] + v[4]) / 2; b = (v[2] + v[3]) / 2
			if (a <= 0 || b <= 0 || rate <= 0 || fixed <= 0) exit 1
			ta = 1e6 / a / layers; tb = 1e6 / b / layers
			model = fixed + (1 - rate) * (ta - fixed)
			printf "%.2f %.2f %.3f %.1f %.1f %.3f\n", a, b, rate, tb, model, model / tb
		}' "$out/$cache.speeds" > "$out/$cache.values" || { say "$cache GB: no figures"; return 1; }
	read -r a b rate tb model reached < "$out/$cache.values"
	figure "$cache GB tok/s all on the CPU" "$a"
	figure "$cache GB tok/s in slots" "$b"
	figure "$cache GB hit rate" "$rate"
	figure "$cache GB us of a layer" "$tb"
	figure "$cache GB us of the time model" "$model"
	figure "$cache GB reached of the time model" "$reached" -ge 0.85
	say "$cache GB: all on the CPU $a tok/s, in slots $b tok/s, hit rate $rate, layer $tb us, time model $model us, reached $reached"
	awk -v r="$reached" 'BEGIN { exit r < 0.85 }'
}

part_d() {
	ok=0
	[ -e "$(model_file)" ] || { say "d: failed: there is no $(model_file): run the part \"model\" first"; return 1; }
	one_run base 0 cpu || { say "d: failed"; return 1; }
	base=$(of_device "$out/base.status" vram_bytes)
	for cache in ${CACHES:-14 22}; do
		cache_runs "$cache" || ok=1
	done
	if routing > /dev/null; then
		say "d: the routing is that of $(cat "$programs/routing.name"), $(experts) experts a layer"
	else
		say "d: the routing is the model's own (random routers whose rows differ in length), not a trace's"
	fi
	verdict
}

# ---- a part, and all of them

# The part's result, which ended with status $1 after $2 seconds.
result() {
	plain='s/[\\"]//g; s/[[:cntrl:]]/ /g'
	{
		printf '{"part":"%s","passed":%s,"seconds":%s,"last_line":"%s",\n"machine":[' "$part" \
			"$([ "$1" -eq 0 ] && echo true || echo false)" "$2" "$(tail -n 1 "$out/said" | sed "$plain")"
		sed "$plain; s/.*/\"&\"/" "$out/machine.txt" 2> /dev/null | paste -sd, -
		printf '],\n"figures":[\n'
		paste -sd, "$out/figures"
		printf ']}\n'
	} > "$out/result.json"
}

# Runs the part for as long as it may take, all that it starts in one group of processes.
limited() {
	rm -rf "$out"
	mkdir -p "$out" || exit 1
	: > "$out/figures"
	: > "$out/said"
	began=$(now)
	HARDWARE_DEADLINE=$((began + PART_SECONDS)) timeout -k 10 "$PART_SECONDS" "$0" "$part" "$dir" "$1" > "$out/said" 2>&1 &
	inner=$!
	trap 'kill "$inner" 2> /dev/null; wait "$inner"; exit 1' INT TERM # at once: a shell lets only its "wait" be interrupted
	tail -n +1 -f -s 0.2 --pid="$inner" "$out/said" &
	shown=$!
	wait "$inner"
	rc=$?
	wait "$shown"
	case $rc in 124 | 137) say "$part: failed: it was not done after $PART_SECONDS s" | tee -a "$out/said" ;; esac
	result $rc $(($(now) - began))
	[ $rc -eq 0 ]
}

[ $# -ge 2 ] || die "usage: hardware.sh prepare DIR [ARCH...] | hardware.sh a|sanitizer|b|c|model|d|all DIR OUT"
part=$1 dir=$2
if [ "$part" = prepare ]; then
	shift
	prepare "$@"
	exit
fi
[ $# -eq 3 ] || die "$part: DIR and OUT are wanted"
case $part in
a | sanitizer | b | c | model | d) ;;
all)
	failed='' running=''
	trap 'kill "$running" 2> /dev/null; wait "$running"; exit 1' INT TERM # it ends what it runs, then this ends
	for p in ${PARTS:-a sanitizer b c model d}; do
		"$0" "$p" "$dir" "$3" &
		running=$!
		wait "$running" || failed="$failed $p"
	done
	[ -z "$failed" ] || die "all: failed:$failed"
	say "all: passed"
	exit
	;;
*) die "$part is no part" ;;
esac
out=$3/$part
if [ -z "${HARDWARE_DEADLINE:-}" ]; then
	limited "$3"
	exit
fi
unpack "$dir"
machine
suits
"part_$part"
