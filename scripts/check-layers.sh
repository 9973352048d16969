#!/bin/sh
# SPDX-License-Identifier: MIT
# The layer order of the rooms: a file may include headers of its own room and of rooms to its left.
#   uapi <- base <- kernels <- model <- {telemetry, device} <- store <- policy <- engine <- serve <- main
# policy includes nothing but base and itself; tools never include engine or serve; store never policy.
cd "$(dirname "$0")/.." || exit 1
bad=0

allowed() { # room -> the prefixes that it may include
	case $1 in
	uapi) echo "uapi" ;;
	base) echo "uapi base" ;;
	kernels) echo "uapi base kernels" ;;
	model) echo "uapi base kernels model" ;;
	telemetry | device) echo "uapi base kernels model $1" ;;
	store) echo "uapi base kernels model telemetry device store" ;;
	policy) echo "base policy" ;;
	engine) echo "uapi base kernels model telemetry device store policy engine" ;;
	serve) echo "uapi base kernels model telemetry device store policy engine serve" ;;
	main) echo "uapi base kernels model telemetry device store policy engine serve" ;;
	tools) echo "uapi base kernels model telemetry store policy tools" ;;
	esac
}

check() { # room file...
	room=$1
	shift
	may=$(allowed "$room")
	for file in "$@"; do
		[ -e "$file" ] || continue
		for target in $(sed -n 's/^[[:space:]]*#[[:space:]]*include "\([^"]*\)".*/\1/p' "$file"); do
			prefix=${target%%/*}
			[ "$prefix" != "$target" ] || prefix=$room # a bare name: beside the file
			case " $may " in
			*" $prefix "*) ;;
			*)
				echo "$file: $room may not include \"$target\""
				bad=1
				;;
			esac
		done
	done
}

check uapi uapi/*.[ch]
check base base/*.[ch]
check kernels kernels/*.[ch] kernels/cpu/*.[ch]
# The one exception: ptx.h takes the emulation of its instructions where there is no GPU compiler.
check kernels $(ls kernels/cuda/* | grep -v '/ptx\.h$')
for room in model telemetry device store policy engine serve; do
	check $room daemon/$room/*.[ch]
done
check main daemon/*.[ch]
check tools tools/*.[ch]
grep -ln 'cuda' daemon/*/*.[ch] kernels/*.[ch] kernels/cpu/*.[ch] 2>/dev/null | grep -v '^daemon/device/' |
	while read -r file; do
		grep -n '#include.*cuda' "$file" && echo "$file: only device/ and kernels/cuda include CUDA"
	done | grep . && bad=1
[ $bad -eq 0 ] && echo "layers hold"
exit $bad
