#!/bin/sh
# SPDX-License-Identifier: MIT
#
# tests/bench/peer/build.sh: gets llama.cpp and builds what the comparisons run.
#
# llama.cpp comes inside the source package of llama-cpp-python on PyPI, so one ordinary pip
# download is all that is needed. It is unpacked and built under PEER (default build/peer), which
# git ignores: nothing of it belongs to this project. Niced, because it takes a while. With PEER_SOURCE
# it builds a checkout that is there already, of llama.cpp or ik_llama.cpp, and gets nothing:
#
#	PEER=build/ik PEER_SOURCE=DIR tests/bench/peer/build.sh llama-bench
#
# PEER_LEVEL=avx2: as for a machine without AVX-512, for compare.py --level avx2; in a folder of its own, from a
# source that is there already:
#
#	PEER=build/peer-avx2 PEER_SOURCE=build/peer/src PEER_LEVEL=avx2 tests/bench/peer/build.sh llama-bench
#
#	tests/bench/peer/build.sh [TARGET ...]		default: llama-bench llama-perplexity; tests/bench/clients wants llama-server
#
# Prints the path of the folder with the programs. A second call finds them and builds nothing.
set -eu

PEER=${PEER:-build/peer}
SOURCE=${PEER_SOURCE:-}
PYTHON=${PEER_PYTHON:-python3}
JOBS=${JOBS:-2}
[ $# -gt 0 ] || set -- llama-bench llama-perplexity

say() {
	echo "peer: $*" >&2
}

built() {
	for target; do
		[ -x "$PEER/bin/$target" ] || return 1
	done
}

mkdir -p "$PEER"
PEER=$(cd "$PEER" && pwd)
if built "$@"; then
	echo "$PEER/bin"
	exit 0
fi

command -v cmake >/dev/null || {
	say "cmake is missing: apt-get install cmake g++"
	exit 1
}

# download_source: llama.cpp of the source package, in $PEER/src
download_source() {
	sdist=$(find "$PEER" -maxdepth 1 -name 'llama_cpp_python-*.tar.gz' | sort | tail -n 1)
	if [ -z "$sdist" ]; then
		say "downloading the source package of llama-cpp-python"
		"$PYTHON" -m pip download --quiet --no-deps --no-binary llama-cpp-python \
			--dest "$PEER" llama-cpp-python >&2
		sdist=$(find "$PEER" -maxdepth 1 -name 'llama_cpp_python-*.tar.gz' | sort | tail -n 1)
	fi
	[ -n "$sdist" ] || {
		say "pip left no source package in $PEER"
		exit 1
	}

	if [ ! -f "$PEER/src/CMakeLists.txt" ]; then
		say "unpacking $(basename "$sdist")"
		rm -rf "$PEER/src.part"
		mkdir "$PEER/src.part"
		tar -xzf "$sdist" -C "$PEER/src.part" --strip-components=3 --wildcards '*/vendor/llama.cpp'
		mv "$PEER/src.part" "$PEER/src"
		basename "$sdist" .tar.gz >"$PEER/version"
	fi
}

if [ -n "$SOURCE" ]; then
	[ -f "$SOURCE/CMakeLists.txt" ] || {
		say "PEER_SOURCE=$SOURCE has no CMakeLists.txt"
		exit 1
	}
	SOURCE=$(cd "$SOURCE" && pwd)
	commit=$(git -C "$SOURCE" rev-parse --short HEAD 2>/dev/null) || commit="no commit known"
	echo "$(basename "$SOURCE"), $commit" >"$PEER/version"
else
	download_source
	SOURCE=$PEER/src
fi
# ik_llama.cpp has llama-bench among its examples, and attention kernels for every mix of types of keys and values, which
# take most of its build; those of a bench are F16
examples=OFF
quants=
[ -d "$SOURCE/tools/llama-bench" ] || {
	examples=ON
	quants=-DGGML_IQK_FA_ALL_QUANTS=OFF
}

# One native build for the machine that it runs on, as its README advises, or for AVX2; no GPU, no network.
case ${PEER_LEVEL:-native} in
native) level="-DGGML_NATIVE=ON" ;;
avx2) level="-DGGML_NATIVE=OFF -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON
	-DGGML_AVX512=OFF -DGGML_AVX_VNNI=OFF" ;;
*)
	say "PEER_LEVEL is native or avx2"
	exit 1
	;;
esac
# shellcheck disable=SC2086 # options, one a word
nice -n 19 cmake -S "$SOURCE" -B "$PEER/cmake" -DCMAKE_BUILD_TYPE=Release $level $quants \
	-DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
	-DLLAMA_BUILD_EXAMPLES=$examples -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_TOOLS=ON \
	>"$PEER/cmake.log" 2>&1 || {
	tail -n 20 "$PEER/cmake.log" >&2
	exit 1
}
say "building $* with $JOBS jobs, niced (log: $PEER/build.log)"
nice -n 19 cmake --build "$PEER/cmake" --target "$@" -j "$JOBS" >"$PEER/build.log" 2>&1 || {
	tail -n 20 "$PEER/build.log" >&2
	exit 1
}
mkdir -p "$PEER/bin"
for target; do
	cp "$PEER/cmake/bin/$target" "$PEER/bin/$target"
done
echo "$PEER/bin"
