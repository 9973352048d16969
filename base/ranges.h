/* SPDX-License-Identifier: MIT */
/*
 * base/ranges.h: what the numbers of a request may be, under the names of docs/http.md: the server refuses what
 * is not within them, `sluice chat` does not take it in the first place. Constant. Any thread.
 */
#ifndef SLUICE_BASE_RANGES_H
#define SLUICE_BASE_RANGES_H

#include <stdint.h>

/* X(name, min, max), both included; the names are those of struct sampling's fields too. */
#define RANGES_FLOAT(X)                 \
	X(temperature, 0, 100)          \
	X(top_p, 0, 1)                  \
	X(min_p, 0, 1)                  \
	X(repeat_penalty, 0, 100)       \
	X(frequency_penalty, -100, 100) \
	X(presence_penalty, -100, 100)  \
	X(typical_p, 0, 1)              \
	X(top_n_sigma, -1, 1000)        \
	X(xtc_probability, 0, 1)        \
	X(xtc_threshold, 0, 1)          \
	X(dry_multiplier, 0, 100)

/* max_tokens, top_k, repeat_last_n: -1 is as if nothing were said, or all. */
#define RANGE_COUNT_MIN (-1)
#define RANGE_COUNT_MAX INT32_MAX

#endif
