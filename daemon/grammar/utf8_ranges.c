/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/utf8_ranges.c: a range of code points as sequences of ranges of bytes (UTF-8, RFC
 * 3629). A range is cut until its first and last code point are encoded in the same number of bytes
 * and every byte but the first that differs runs through all of its values. See program.h.
 */
#include "base/utf8.h"
#include "grammar/program.h"

/* Where [lo, hi] has to be cut: the last code point of the first part. False: it is one sequence. */
static bool cut(uint32_t lo, uint32_t hi, uint32_t *ret)
{
	static const uint32_t last[] = { 0x7f, 0x7ff, 0xffff };
	unsigned n;

	for (unsigned i = 0; i < 3; i++)
		if (lo <= last[i] && hi > last[i]) {
			*ret = last[i];
			return true;
		}
	n = hi < 0x80 ? 1 : hi < 0x800 ? 2 : hi < 0x10000 ? 3 : 4;
	for (unsigned i = 1; i < n; i++) {
		uint32_t m = (1u << 6 * i) - 1;

		if ((lo & ~m) == (hi & ~m))
			continue;
		if (lo & m) {
			*ret = lo | m;
			return true;
		}
		if ((hi & m) != m) {
			*ret = (hi & ~m) - 1;
			return true;
		}
	}
	return false;
}

void utf8_split(uint32_t lo, uint32_t hi, utf8_seq_fn fn, void *arg)
{
	while (lo <= hi) {
		uint32_t end = hi, at;
		struct utf8_seq s;

		while (cut(lo, end, &at))
			end = at;
		s.n = utf8_encode(lo, s.lo);
		utf8_encode(end, s.hi);
		fn(arg, &s);
		lo = end + 1;
	}
}
