/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/model/split_oracle.h: the pieces of a text by the expressions that define a split, run
 * by PCRE2. For the unit test and the fuzzer: asserts on its own failures. One thread.
 */
#ifndef SLUICE_TEST_SPLIT_ORACLE_H
#define SLUICE_TEST_SPLIT_ORACLE_H

#define PCRE2_CODE_UNIT_WIDTH 8

#include <assert.h>
#include <pcre2.h>
#include <stdbool.h>
#include <string.h>

#include "model/pretok.h"

struct oracle {
	struct pretok *p;
	unsigned n; /* expressions */
	pcre2_code *code[PRETOK_PATTERNS];
	pcre2_match_data *match;
};

static inline void oracle_init(struct oracle *o, const char *name)
{
	PCRE2_SIZE at;
	int error, rc;

	memset(o, 0, sizeof(*o));
	rc = pretok_create(name, &o->p);
	assert(!rc);
	for (; pretok_pattern(o->p, o->n); o->n++) {
		o->code[o->n] = pcre2_compile((PCRE2_SPTR)pretok_pattern(o->p, o->n),
					      PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error,
					      &at, NULL);
		assert(o->code[o->n]);
		pcre2_jit_compile(o->code[o->n], PCRE2_JIT_COMPLETE);
	}
	assert(o->n > 0);
	o->match = pcre2_match_data_create(1, NULL);
	assert(o->match);
}

static inline void oracle_fini(struct oracle *o)
{
	pcre2_match_data_free(o->match);
	for (unsigned i = 0; i < o->n; i++)
		pcre2_code_free(o->code[i]);
	pretok_destroy(o->p);
}

/*
 * Cuts text[0..len) by expression @i and what comes after it; ends[b] is set where a piece ends at
 * byte b.
 */
static inline void oracle_cut(const struct oracle *o, unsigned i, const char *text, size_t len,
			      bool *ends)
{
	size_t at = 0;

	ends[len] = true;
	if (i == o->n || i >= PRETOK_PATTERNS)
		return;
	while (at < len) {
		const size_t *span = pcre2_get_ovector_pointer(o->match);
		size_t first = len, stop = len;

		if (pcre2_match(o->code[i], (PCRE2_SPTR)text, len, at, PCRE2_NO_UTF_CHECK, o->match,
				NULL) > 0) {
			first = span[0];
			stop = span[1];
		}
		if (first > at)
			oracle_cut(o, i + 1, text + at, first - at, ends + at);
		if (stop > first)
			oracle_cut(o, i + 1, text + first, stop - first, ends + first);
		at = stop;
	}
}

#endif
