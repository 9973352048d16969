#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: matrix.sh PROGRAMS_DIR
# Every kernel with every topology, one guest after the other; a line for each and the sum. A row
# whose kernel cannot be had counts as failed. ROWS and TOPOLOGIES narrow it. The row
# 6.12-2 takes a million samples in test_torn, the others TORN (default 20000).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
programs=$1
export LIMIT="${LIMIT:-900}" PROGRAM_LIMIT="${PROGRAM_LIMIT:-600}"
total=0 failed=0
for row in ${ROWS:-6.1 6.1-rt 6.12 7}; do
	for topology in ${TOPOLOGIES:-1 2 4 memless}; do
		total=$((total + 1))
		torn=${TORN:-20000}
		[ "$row-$topology" != 6.12-2 ] || torn=1000000
		TORN=$torn "$here/row.sh" "$row" "$topology" "$programs" || failed=$((failed + 1))
	done
done
echo "kmod matrix: $((total - failed)) of $total rows passed"
[ "$failed" -eq 0 ]
