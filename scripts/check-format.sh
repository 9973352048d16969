#!/bin/sh
# SPDX-License-Identifier: MIT
# Format and first lines: clang-format (kernel style), an SPDX line in every source, no long file.
cd "$(dirname "$0")/.." || exit 1
bad=0
files=$(git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp')
for file in $files $(git ls-files '*.py' '*.sh' '*.mk' Makefile); do
	head -n 2 "$file" | grep -q 'SPDX-License-Identifier' || { echo "$file: no SPDX line"; bad=1; }
done
for file in $files; do
	lines=$(wc -l <"$file")
	[ "$lines" -le 700 ] || { echo "$file: $lines lines, split it"; bad=1; }
done
# versions of clang-format differ in small things: the one of Debian 12 decides
if clang-format --version | grep -q 'version 14\.'; then
	# shellcheck disable=SC2086
	clang-format --dry-run --Werror $files || bad=1
else
	echo "clang-format is not version 14: only SPDX lines and lengths were checked"
fi
[ $bad -eq 0 ] && echo "format holds"
exit $bad
